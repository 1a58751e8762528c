//! Who may open a stream, by what Envoy says of itself in a stream's first request.

use envoy_types::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};
use thiserror::Error;

/// The least Envoy that does as it is told (major, minor). Before 1.37 Envoy has no access log tags with a format
/// (`CustomTag.value`), so it refuses the listener. Older ones pass over other settings that they do not
/// know, in silence: before 1.31 `ext_authz.decoder_header_mutation_rules`, which keeps a check's answer from
/// setting any header (the others are older: `bootstrap_metadata_labels_key`,
/// `disable_request_body_buffering`, on-demand clusters, early header mutation).
const LEAST_ENVOY: (u32, u32) = (1, 37);

/// More than any host or Pod name needs. Ids are kept, logged and compared.
const MAX_ID_LENGTH: usize = 253;

/// Why a stream is refused: the text is for who runs that Envoy.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    #[error(
        "the first request on an xDS stream must carry node.id: set node.id in Envoy's bootstrap, or start \
         Envoy with --service-node"
    )]
    NoId,
    #[error("node.id has {0} characters; at most {MAX_ID_LENGTH} are taken: shorten it in Envoy's bootstrap")]
    LongId(usize),
    #[error("node.id has control characters in it: correct it in Envoy's bootstrap")]
    UnprintableId,
    #[error(
        "Envoy {0} is too old: it would ignore settings that keep sessions apart. At least Envoy {least} is \
         needed", least = format_args!("{}.{}", LEAST_ENVOY.0, LEAST_ENVOY.1)
    )]
    OldEnvoy(String),
}

/// The id of the Envoy that opens a stream. Who does not say its version is let in: it may be no Envoy.
pub fn admit(node: Option<&Node>) -> Result<String, Refusal> {
    let Some(node) = node.filter(|node| !node.id.is_empty()) else {
        return Err(Refusal::NoId);
    };
    let length = node.id.chars().count();
    if length > MAX_ID_LENGTH {
        return Err(Refusal::LongId(length));
    }
    if node.id.chars().any(char::is_control) {
        return Err(Refusal::UnprintableId);
    }
    if let Some(UserAgentVersionType::UserAgentBuildVersion(build)) = &node.user_agent_version_type
        && let Some(version) = &build.version
        && (version.major_number, version.minor_number) < LEAST_ENVOY
    {
        let text = format!("{}.{}.{}", version.major_number, version.minor_number, version.patch);
        return Err(Refusal::OldEnvoy(text));
    }
    Ok(node.id.clone())
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::NoId | Refusal::LongId(_) | Refusal::UnprintableId => Self::invalid_argument(text),
            Refusal::OldEnvoy(_) => Self::failed_precondition(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::BuildVersion;
    use envoy_types::pb::envoy::r#type::v3::SemanticVersion;
    use rstest::rstest;
    use tonic::{Code, Status};

    use super::*;

    fn named(id: &str) -> Node {
        Node { id: id.to_owned(), ..Default::default() }
    }

    fn of_version(major_number: u32, minor_number: u32) -> Node {
        let version = Some(SemanticVersion { major_number, minor_number, patch: 3 });
        let build = BuildVersion { version, metadata: None };
        let version = Some(UserAgentVersionType::UserAgentBuildVersion(build));
        Node { user_agent_version_type: version, ..named("envoy") }
    }

    #[rstest]
    #[case::of_no_version(named("envoy"))]
    #[case::of_the_least_version(of_version(1, 37))]
    #[case::of_today(of_version(1, 40))]
    #[case::of_the_next_decade(of_version(2, 0))]
    #[case::with_the_longest_name(named(&"ä".repeat(253)))]
    fn an_envoy_is_let_in(#[case] node: Node) {
        assert_eq!(admit(Some(&node)), Ok(node.id.clone()));
    }

    #[rstest]
    #[case::without_a_name(named(""), Code::InvalidArgument, "node.id")]
    #[case::with_too_long_a_name(named(&"a".repeat(254)), Code::InvalidArgument, "has 254 characters; at most 253")]
    #[case::with_a_line_break_in_it(named("a\nb"), Code::InvalidArgument, "control characters")]
    #[case::that_is_too_old(of_version(1, 36), Code::FailedPrecondition, "Envoy 1.36.3 is too old")]
    #[case::that_is_ancient(of_version(0, 99), Code::FailedPrecondition, "At least Envoy 1.37 is needed")]
    fn an_envoy_is_refused_in_words(#[case] node: Node, #[case] code: Code, #[case] words: &str) {
        let status = Status::from(admit(Some(&node)).unwrap_err());
        assert_eq!(status.code(), code);
        assert!(status.message().contains(words), "{}", status.message());
    }
}
