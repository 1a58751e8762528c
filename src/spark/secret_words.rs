//! Takes what looks like a secret out of foreign words that go into conditions and Events, which more people may read
//! than logs: error messages of the Spark Operator (which repeat the command line of `spark-submit`), of Pods and of the
//! API server, and lines of drivers' logs.
//!
//! Secrets are known by the names before them, and by their form. One that has neither is not found; where the values
//! are known, [`super::redaction`] finds them.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

const TAKEN_OUT: &str = "…";

/// In names of what is not for everyone, as Spark itself redacts its configuration, and more.
const WORD: &str = "secret|password|passwd|pwd|token|credential|bearer|authorization\
                    |(?:access|account|api|private)[._-]?key";

/// `None` if a pattern is wrong, which a test would show.
static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| Patterns::new().ok());

struct Patterns {
    name: Regex,
    private_key: Regex,
    login: Regex,
    json_web_token: Regex,
    bearer: Regex,
    flag: Regex,
    assigned: Regex,
}

impl Patterns {
    fn new() -> Result<Self, regex::Error> {
        let name = format!(r"[\w.$-]*(?:{WORD})[\w.$-]*|\bsig");
        let value = r#"(?:"(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$)|\S+)"#;
        Ok(Self {
            name: Regex::new(&format!("(?i)(?:{WORD}|sig=)"))?,
            private_key: Regex::new(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|$)")?,
            // With a colon the password may hold anything, without one it is as the URL's grammar has it.
            login: Regex::new(r#"://(?:[^\s/?#@:"'<>]*:[^\s"'<>]*|[^\s/?#"'<>]*)@"#)?,
            json_web_token: Regex::new(r"\beyJ[\w-]{8,}(?:\.[\w-]*)+")?,
            bearer: Regex::new(&format!(r"(?i)(\bbearer\s+){value}"))?,
            flag: Regex::new(&format!(r"(?i)((?:^|\s)--?(?:{name})\s+){value}"))?,
            // The value follows; how far it goes depends on what is before it.
            assigned: Regex::new(&format!(
                r#"(?i)(?P<quote>["']?)(?P<name>{name})(?:["']?\s*=\s*|["']\s*:\s*(?P<json>["'])|["']?:\s*)"#
            ))?,
        })
    }
}

/// Whether the line has to do with secrets.
pub fn names_a_secret(line: &str) -> bool {
    PATTERNS.as_ref().is_none_or(|patterns| patterns.name.is_match(line))
}

/// The text with `…` in place of passwords, tokens and keys. Rather too much is taken out than too little: of
/// `name=value` everything to the next flag or to the end of the line, since the value may hold spaces.
pub fn without_secrets(text: &str) -> String {
    let Some(patterns) = PATTERNS.as_ref() else { return TAKEN_OUT.to_owned() };
    let text = patterns.private_key.replace_all(text, TAKEN_OUT);
    let text = patterns.login.replace_all(&text, "://…@");
    let text = patterns.json_web_token.replace_all(&text, TAKEN_OUT);
    let lines = text.split_inclusive('\n').map(|line| {
        let (words, end) = line.strip_suffix('\n').map_or((line, ""), |words| (words, "\n"));
        let words = of_names(&patterns.assigned, words);
        let before = |found: &Captures<'_>| format!("{}{TAKEN_OUT}", &found[1]);
        let words = patterns.flag.replace_all(&words, before);
        let words = patterns.bearer.replace_all(&words, before);
        format!("{words}{end}")
    });
    lines.collect()
}

/// Of one line: without the values that are assigned to names.
fn of_names<'l>(assigned: &Regex, line: &'l str) -> Cow<'l, str> {
    let (mut result, mut taken) = (String::new(), 0);
    while let Some(found) = assigned.captures_at(line, taken) {
        let Some(whole) = found.get(0) else { break };
        // A quote that opens the value belongs to it.
        let begin = found.name("json").map_or(whole.end(), |quote| quote.start());
        let (Some(before), Some(rest)) = (line.get(taken..begin), line.get(begin..)) else { break };
        let is_header = found["name"].to_lowercase().ends_with("authorization");
        let end = match found["quote"].chars().next() {
            // `"name=two words"`, and not `"name": …`.
            Some(quote) if !before.trim_end_matches([' ', '=', ':']).ends_with(quote) => rest.find(quote),
            _ if rest.starts_with(TAKEN_OUT) => Some(TAKEN_OUT.len()),
            _ if rest.starts_with(['"', '\'']) => end_of_quoted(rest),
            _ if before.trim_end().ends_with(':') && !is_header => rest.find(char::is_whitespace),
            _ => rest.find(" --"),
        };
        let end = end.unwrap_or(rest.len());
        result.push_str(before);
        if end > 0 {
            result.push_str(TAKEN_OUT);
        }
        taken = begin + end;
    }
    if taken == 0 {
        return Cow::Borrowed(line);
    }
    result.push_str(line.get(taken..).unwrap_or_default());
    Cow::Owned(result)
}

fn end_of_quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut escaped = false;
    let close = text.char_indices().skip(1).find(|(_, character)| {
        let closes = *character == quote && !escaped;
        escaped = *character == '\\' && !escaped;
        closes
    });
    close.map(|(at, _)| at + quote.len_utf8())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::an_option_of_spark_submit(
        "failed to run spark-submit: --conf spark.x.password=hunter2 --conf spark.y=1 --class A",
        "failed to run spark-submit: --conf spark.x.password=… --conf spark.y=1 --class A"
    )]
    #[case::a_value_with_spaces(
        "--conf spark.hadoop.fs.s3a.secret.key=two words --name n",
        "--conf spark.hadoop.fs.s3a.secret.key=… --name n"
    )]
    #[case::the_last_one("--conf spark.my.token=abc def", "--conf spark.my.token=…")]
    #[case::a_quoted_option(
        r#"--conf "spark.x.password=two words" local:///a.jar"#,
        r#"--conf "spark.x.password=…" local:///a.jar"#
    )]
    #[case::a_quoted_value("PASSWORD='a b' and more", "PASSWORD=… and more")]
    #[case::json(r#"{"password":"a\"b","user":"u"}"#, r#"{"password":…,"user":"u"}"#)]
    #[case::spaced_json(r#"{ "apiKey" : "a b", "user" : "u" }"#, r#"{ "apiKey" : …, "user" : "u" }"#)]
    #[case::a_java_property("-Djavax.net.ssl.keyStorePassword=hunter2", "-Djavax.net.ssl.keyStorePassword=…")]
    #[case::a_flag("kinit --password hunter2 --user u", "kinit --password … --user u")]
    #[case::a_header("Authorization: Basic YTpi", "Authorization: …")]
    #[case::a_bearer("sent Bearer abc.def to it", "sent Bearer … to it")]
    #[case::a_web_token("got eyJhbGciOiJIUzI1.eyJzdWIi.c2ln there", "got … there")]
    #[case::a_login_in_a_url("GET https://bob:hunter2@repo/x.jar: 404", "GET https://…@repo/x.jar: 404")]
    #[case::a_login_with_a_slash("jdbc:pg://bob:a/b@c@host/db failed", "jdbc:pg://…@host/db failed")]
    #[case::a_user_alone("ssh://git@host/x", "ssh://…@host/x")]
    #[case::a_signed_url("https://a.blob/x?sv=1&sig=abc%3D&se=2", "https://a.blob/x?sv=1&sig=…")]
    #[case::a_private_key("a\n-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\nb", "a\n…\nb")]
    #[case::only_its_line("password=hunter2\nOut of memory\n", "password=…\nOut of memory\n")]
    fn a_secret_is_taken_out(#[case] said: &str, #[case] shown: &str) {
        assert_eq!(without_secrets(said), shown);
        assert_eq!(without_secrets(shown), shown, "twice changes nothing");
    }

    #[rstest]
    #[case::no_secret("ErrImagePull: no such image")]
    #[case::the_name_of_a_secret(r#"CreateContainerConfigError: secret "p-0-token" not found"#)]
    #[case::a_volume(r#"MountVolume.SetUp failed for volume "my-token" : secret "x" not found"#)]
    #[case::a_digest("pulling registry.example.com/a@sha256:0123")]
    #[case::a_quota("exceeded quota: compute, requested: cpu=1, used: cpu=4, limited: cpu=4")]
    fn what_tells_the_cause_stays(#[case] said: &str) {
        assert_eq!(without_secrets(said), said);
    }

    #[test]
    fn a_cause_behind_a_name_is_shortened_and_not_lost() {
        let said = "failed to fetch oauth token: unexpected status from GET request: 401 Unauthorized";
        assert_eq!(
            without_secrets(said),
            "failed to fetch oauth token: … status from GET request: 401 Unauthorized"
        );
    }

    #[test]
    fn lines_about_secrets_are_known() {
        assert!(["Password: x", "s3a.access.key", "?sig=1"].into_iter().all(names_a_secret));
        assert!(["Out of memory", "a sign"].into_iter().all(|line| !names_a_secret(line)));
    }

    proptest! {
        #[test]
        fn no_password_survives(before in "[^\"']{0,20}", value in "[a-zA-Z0-9]{12,40}", after in ".{0,20}") {
            for said in [
                format!("{before} --conf spark.x.password={value} {after}"),
                format!("{before} --conf spark.x.password=a {value} {after}"),
                format!("{before} \"secret\": \"{value}\" {after}"),
                format!("{before} https://u:{value}@host {after}"),
            ] {
                prop_assert!(!without_secrets(&said).contains(&value), "{}", said);
            }
        }

        #[test]
        fn anything_can_be_read(said in "(?s).{0,200}") {
            without_secrets(&said);
        }
    }
}
