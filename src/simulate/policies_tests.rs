use serde_json::json;

use super::*;
use crate::simulate::StartTimes;
use crate::simulate::simulation::{Figures, Question};
use crate::simulate::trace::Arrival;

fn question(spec: &serde_json::Value, arrivals: &[(i64, usize, i64)]) -> Question {
    let mut whole = json!({
        "type": "connect",
        "host": "spark.example.com",
        "sparkApplicationTemplate": { "spec": {} },
        "sessionPolicy": { "maxTotalSessions": 1000 },
    });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let pool = SparkSessionPool::new("p", serde_json::from_value(whole).unwrap());
    let arrivals = arrivals.iter().flat_map(|(at, count, stays)| {
        (0..*count).map(move |n| Arrival { at: *at, user: format!("u{at}-{n}"), stays: *stays })
    });
    Question {
        pool,
        arrivals: arrivals.collect(),
        starts: StartTimes::Constant(40),
        percent_per_session: None,
    }
}

fn figures(question: &Question, policy: Policy) -> Figures {
    question.answer(policy, || ()).unwrap().figures
}

fn target(sessions: i32, min: i32, max: i32) -> serde_json::Value {
    json!({
        "replicas": { "min": min, "max": max },
        "scaling": { "metrics": { "targetPerInstance": sessions }, "cooldownSeconds": 300 },
    })
}

#[test]
fn a_fixed_pool_never_waits_and_pays_for_every_hour() {
    let question = question(&target(10, 0, 3), &[(3600, 25, 1800)]);
    let fixed = figures(&question, Policy::FixedAtMaximum);
    assert_eq!((fixed.waited.max, fixed.instance_hours, fixed.scale_actions), (0, 3.0, 0));
    let own = figures(&question, Policy::AsWritten);
    assert_eq!((own.waited.max, own.waited.more_than_one_second, own.most_instances), (40, 25, 3));
    assert!(own.instance_hours < 2.0, "{own:?}");
}

#[test]
fn the_go_operator_adds_one_instance_at_a_time_to_a_crowd() {
    // One session has an instance, when 200 come.
    let crowd = question(&target(20, 0, 10), &[(3600, 1, 7200), (7200, 200, 3600)]);
    let rows = crowd.answer(Policy::GoOperator, || ()).unwrap().rows;
    let existing: Vec<_> = rows.iter().map(|row| row.counts.starting + row.counts.ready).collect();
    assert!(existing.windows(2).all(|two| two[1] <= two[0] + 1), "{existing:?}");
    assert_eq!(figures(&crowd, Policy::GoOperator).most_sessions_on_one_instance, 201);
    assert_eq!(
        figures(&crowd, Policy::AsWritten).scale_actions,
        4,
        "one, nine more, and all of them down in two"
    );
}

#[test]
fn the_go_operator_is_slow_to_see_what_has_changed() {
    let one = question(&target(20, 0, 10), &[(3601, 1, 60)]);
    let waited = figures(&one, Policy::GoOperator).waited.max;
    assert!((60..=40 + 30 + 30 + 10).contains(&waited), "{waited}");
    assert_eq!(figures(&one, Policy::AsWritten).waited.max, 40);
}

#[test]
fn an_hpa_keeps_one_instance_and_takes_others_away_with_their_sessions() {
    // Most go after ten minutes: those who stay are on all instances.
    let leaving = question(&target(5, 0, 10), &[(3600, 40, 600), (3700, 10, 7000)]);
    let hpa = figures(&leaving, Policy::HpaAlone);
    assert!(hpa.ended_by_operator > 0, "{hpa:?}");
    assert!(hpa.waited.max <= 15 + 40, "{hpa:?}");
    let idle = question(&target(5, 0, 10), &[(3600, 1, 10), (20_000, 1, 10)]);
    let hours = figures(&idle, Policy::HpaAlone).instance_hours;
    assert_eq!((hours, figures(&idle, Policy::HpaAlone).waited.max), (5.0, 0));
}

#[test]
fn quotas_are_the_same_for_all() {
    let mut question = question(&target(10, 1, 3), &[(3600, 30, 100)]);
    question.pool.spec.session_policy.max_total_sessions = 20;
    for policy in Policy::ALL {
        assert_eq!(figures(&question, policy).refused, 10, "{policy:?}");
    }
}

/// 40 sessions use as much as two drivers request, and a driver shall use four fifths.
#[test]
fn a_pool_that_is_sized_by_cpu_follows_what_its_sessions_use() {
    let spec = json!({
        "replicas": { "min": 0, "max": 10 },
        "scaling": {
            "metrics": { "type": "cpu", "targetPerInstance": 80 }, "cooldownSeconds": 300, "drainTimeoutSeconds": 60,
        },
    });
    let mut crowd = question(&spec, &[(3600, 40, 7200), (3600, 1, 14_400)]);
    crowd.percent_per_session = Some(5);
    let answer = crowd.answer(Policy::AsWritten, || ()).unwrap();
    assert_eq!((answer.figures.most_instances, answer.figures.waited.max), (3, 40));
    let ready: Vec<_> = answer.rows.iter().map(|row| row.counts.ready).collect();
    assert_eq!(ready.last(), Some(&0));
    // Up once, down to the one that the last session needs, and to none.
    assert!(answer.figures.scale_actions <= 4, "{:?}", answer.figures);
    assert!(!Policy::GoOperator.applies_to(&crowd.pool) && Policy::FixedAtMaximum.applies_to(&crowd.pool));
}

#[test]
fn rules_that_put_users_together_are_not_compared_where_they_are_kept_apart() {
    let mut pool = question(&target(10, 0, 3), &[]).pool;
    assert!(Policy::ALL.iter().all(|policy| policy.applies_to(&pool)));
    pool.spec.sharing = Sharing::User;
    let left: Vec<_> = Policy::ALL.iter().filter(|policy| policy.applies_to(&pool)).collect();
    assert_eq!(left, [&Policy::AsWritten, &Policy::FixedAtMaximum]);
}
