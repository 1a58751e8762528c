//! The upper part of a file: lines that begin with `#` are its heading, lines that begin with a time are its script,
//! all others are YAML and the pool's `spec`, as far as it is not usual.

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use spark_session_operator::api::{SparkSessionPool, SparkSessionPoolSpec};
use spark_session_operator::simulate::{Detail, StartTimes, ThisOperator, World, clock, timeline};

/// Returns the timeline.
pub fn run(case: &str) -> anyhow::Result<String> {
    let is_script = |line: &&str| line.split_once(' ').is_some_and(|(time, _)| clock::parse(time).is_some());
    let (script, rest): (Vec<&str>, Vec<&str>) = case.lines().partition(is_script);
    let spec: Vec<&str> = rest.into_iter().filter(|line| !line.starts_with('#')).collect();
    let spec: Value = serde_saphyr::from_str(&spec.join("\n")).context("the pool's settings")?;
    let mut script = script.into_iter();
    let (begin, first) = statement(script.next().context("there is no script")?)?;
    ensure!(first == "pool is created", "a script begins with `pool is created`, not with `{first}`");
    let mut world = World::new(pool(&spec)?, Box::new(ThisOperator), StartTimes::Constant(40), begin);
    let mut users = 0;
    world.ledger_mut().note(first);
    world.settle()?;
    for line in script {
        let (at, what) = statement(line)?;
        ensure!(at >= world.now(), "`{line}` is not in its order");
        world.run_until(at)?;
        if what != "end" {
            do_to(&mut world, what, &mut users).with_context(|| format!("`{line}`"))?;
            world.ledger_mut().note(what);
            world.settle()?;
        }
    }
    Ok(timeline(world.ledger().rows(), Detail::Everything))
}

fn statement(line: &str) -> anyhow::Result<(i64, &str)> {
    let (time, what) = line.split_once(' ').context("a time, and what happens then")?;
    // Behind two spaces somebody may say why.
    let what = what.trim().split("  ").next().unwrap_or_default();
    Ok((clock::parse(time).with_context(|| format!("{time} is no time"))?, what))
}

fn pool(spec: &Value) -> anyhow::Result<SparkSessionPool> {
    let mut whole = json!({
        "type": "connect",
        "host": "spark.example.com",
        "sparkApplicationTemplate": { "spec": { "image": "spark:1" } },
        // Quotas are another matter.
        "sessionPolicy": { "maxSessionsPerUser": 1000, "maxTotalSessions": 1000 },
    });
    merge(&mut whole, spec);
    Ok(SparkSessionPool::new("p", serde_json::from_value(whole).context("the pool's settings")?))
}

fn do_to(world: &mut World, what: &str, users: &mut usize) -> anyhow::Result<()> {
    let words: Vec<&str> = what.split(' ').collect();
    match words[..] {
        [count, "sessions" | "session", ref whose @ ..] if count.starts_with('+') => {
            arrive(world, count[1..].parse()?, whose, users)
        }
        [count, "sessions" | "session", ref whose @ ..] if count.starts_with('-') => {
            leave(world, &count[1..], whose)
        }
        ["template", "changes"] => {
            world.cluster_mut().change_pool(|spec| {
                let fields = &mut spec.spark_application_template.spec;
                let image = fields.get("image").and_then(Value::as_str).unwrap_or_default();
                let image = format!("{image}.1");
                fields.insert("image".to_owned(), json!(image));
            });
            Ok(())
        }
        ["driver", "of", instance, "dies"] => Ok(world.kill(instance, "driver container failed: OOMKilled")?),
        [instance, "is", "annotated", "to", "drain"] => {
            Ok(world.cluster_mut().annotate_to_drain(instance, true)?)
        }
        [instance, "is", "annotated", "no", "more"] => {
            Ok(world.cluster_mut().annotate_to_drain(instance, false)?)
        }
        ["instances", "take", seconds, "s"] => {
            world.start_in(StartTimes::Constant(seconds.parse()?));
            Ok(())
        }
        ["each", "session", "uses", percent, "%"] => {
            world.measure(percent.parse()?);
            Ok(())
        }
        ["drivers", "fail"] => {
            world.fail_starts(Some("driver container failed: exit code 1"));
            Ok(())
        }
        ["drivers", "start", "again"] => {
            world.fail_starts(None);
            Ok(())
        }
        ["API", "server", "refuses", "the", "template"] => {
            world.cluster_mut().refuse_applications(Some("spec.driver: Required value"));
            Ok(())
        }
        ["API", "server", "takes", "the", "template"] => {
            world.cluster_mut().refuse_applications(None);
            Ok(())
        }
        ["pool", "states", ..] => {
            let change: Value = serde_saphyr::from_str(what.trim_start_matches("pool states"))?;
            let mut changed = None;
            world.cluster_mut().change_pool(|spec| {
                let outcome = with_change(spec, &change);
                changed = Some(outcome.map(|new| *spec = new));
            });
            changed.unwrap_or(Ok(()))
        }
        ["pool", "is", "deleted"] => {
            world.cluster_mut().delete_pool();
            Ok(())
        }
        _ => bail!("nobody knows what that is; see tests/scaling/script.rs"),
    }
}

/// `+84 sessions` (everybody has one), `… of alice`, `… of 40 users`.
fn arrive(world: &mut World, count: usize, whose: &[&str], users: &mut usize) -> anyhow::Result<()> {
    for n in 0..count {
        let user = match whose {
            [] => {
                *users += 1;
                format!("user-{users}")
            }
            ["of", of, "users"] => format!("one-of-{}", n % of.parse::<usize>()?),
            ["of", user] => (*user).to_owned(),
            _ => bail!("sessions come `of alice` or `of 40 users`"),
        };
        world.arrive(&user);
    }
    Ok(())
}

/// `-40 sessions` (the oldest), `… of alice`, `… on p-1`, `-all sessions`.
fn leave(world: &mut World, count: &str, whose: &[&str]) -> anyhow::Result<()> {
    let goes = |user: &str, instance: Option<&str>| match whose {
        [] => Ok(true),
        ["of", whom] => Ok(user == *whom),
        ["on", place] => Ok(instance == Some(place)),
        _ => bail!("sessions go `of alice` or `on p-1`"),
    };
    let mut going = Vec::new();
    for session in world.cluster().sessions().filter(|session| session.status.released_at.is_none()) {
        if goes(&session.spec.user, session.status.assigned_instance.as_deref())? {
            going.push(session.name().to_owned());
        }
    }
    let count = if count == "all" { going.len() } else { count.parse()? };
    ensure!(count <= going.len(), "there are only {}", going.len());
    for session in &going[..count] {
        world.leave(session);
    }
    Ok(())
}

fn with_change(spec: &SparkSessionPoolSpec, change: &Value) -> anyhow::Result<SparkSessionPoolSpec> {
    let mut whole = serde_json::to_value(spec)?;
    merge(&mut whole, change);
    Ok(serde_json::from_value(whole)?)
}

/// As a JSON merge patch, without its deletions.
fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}
