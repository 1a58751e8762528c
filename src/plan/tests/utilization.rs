//! What the measured use of CPU and memory asks for. Figures are in thousandths of the requests, of the 15 seconds until
//! second 595; it is second 600.

use jiff::Timestamp;
use proptest::prelude::*;
use rstest::rstest;

use crate::api::{Metric, MetricType};
use crate::model::fixtures::{at, draining, failed, going, ready, starting};
use crate::model::{Instance, InstancePhase};
use crate::plan::utilization::{self, Advice, Finding};

/// Of as many as take sessions.
fn advice(
    metric: &Metric,
    instances: &[Instance],
    sessions: usize,
    problem: Option<&str>,
    now: Timestamp,
) -> Option<Advice> {
    let present = instances.iter().filter(|instance| instance.takes_sessions()).count();
    utilization::advice(metric, instances, present, sessions, problem, now)
}

const NOW: i64 = 600;
const MEASURED: i64 = 595;

fn metric(metric_type: MetricType, target: i32) -> Metric {
    Metric { metric_type, target_per_instance: Some(target) }
}

/// An instance, told by a word: what it uses of its CPU; or `none` of which there are no figures, `new` whose figures are
/// of its start, `wait` that does not answer yet, `old` whose figures are.
fn instance((ordinal, word): (usize, &str)) -> Instance {
    let name = format!("p-{ordinal}");
    match word {
        "none" => ready(&name),
        "new" => ready(&name).running_since(MEASURED - 15 - 119).using(4000, 4000, MEASURED),
        "wait" => starting(&name),
        "old" => ready(&name).using(4000, 4000, NOW - 121),
        used => {
            let used = used.parse().unwrap();
            ready(&name).using(used, used, MEASURED)
        }
    }
}

fn instances(words: &str) -> Vec<Instance> {
    words.split_whitespace().enumerate().map(instance).collect()
}

fn asked(words: &str, target: i32) -> Advice {
    advice(&metric(MetricType::Cpu, target), &instances(words), 9, None, at(NOW)).unwrap()
}

#[rstest]
// Load by target, rounded up.
#[case::double("1000", 50, 2, Finding::Above)]
#[case::a_little_more_than_two_can_take("1000 1010", 50, 5, Finding::Above)]
#[case::the_average_counts("1000 200 300", 50, 3, Finding::OnTarget)]
#[case::half("250 250", 50, 1, Finding::Below)]
#[case::more_than_requested("3000", 80, 4, Finding::Above)]
#[case::a_target_above_the_requests("1500 1500", 150, 2, Finding::OnTarget)]
#[case::who_is_idle_needs_one("0 0 0", 80, 1, Finding::Below)]
// A tenth is tolerated.
#[case::a_tenth_above("880 880 880", 80, 3, Finding::OnTarget)]
#[case::above_that("881 881 881", 80, 4, Finding::Above)]
#[case::a_tenth_below("720 720 720", 80, 3, Finding::OnTarget)]
#[case::below_that("719 719 719", 80, 3, Finding::Below)]
#[case::so_far_that_one_is_not_needed("533 533 533", 80, 2, Finding::Below)]
// Up: who is not measured counts as idle.
#[case::one_is_missing("1000 none", 50, 2, Finding::Undecided)]
#[case::one_starts("1000 wait", 50, 2, Finding::Undecided)]
#[case::one_has_just_started("1000 new", 50, 2, Finding::Undecided)]
#[case::busy_enough_for_all("1000 1000 1000 wait", 50, 6, Finding::Above)]
#[case::figures_too_old("1000 old", 50, 2, Finding::Undecided)]
// Down: who is missing counts as on target, who starts does not count.
#[case::idle_beside_a_missing_one("100 none", 50, 2, Finding::Below)]
#[case::idle_ones_beside_a_missing_one("100 100 100 none", 50, 2, Finding::Below)]
#[case::not_idle_enough("440 none none", 50, 3, Finding::Undecided)]
#[case::idle_beside_one_that_starts("100 wait", 50, 1, Finding::Below)]
// Nothing is measured: what is there stays.
#[case::none("none none", 50, 2, Finding::Unmeasured)]
#[case::all_start("wait new", 50, 2, Finding::Early)]
#[case::all_too_old("old old old", 50, 3, Finding::Unmeasured)]
fn a_load_asks_for(#[case] load: &str, #[case] target: i32, #[case] wanted: i32, #[case] finding: Finding) {
    let advice = asked(load, target);
    assert_eq!((advice.instances, advice.finding), (wanted, finding), "{}", advice.reason);
}

#[rstest]
#[case("930 930 930", "cpu at 93 % of the requests on average over 3 instance(s), target 80 %")]
#[case(
    "855",
    "cpu at 86 % of the requests on average over 1 instance(s), target 80 %, which is within a tenth of it"
)]
#[case(
    "1000 none wait",
    "cpu at 100 % of the requests on average over 1 instance(s), target 80 %, and 2 without figures that could make up \
     for it"
)]
#[case(
    "100 100 none",
    "cpu at 10 % of the requests on average over 2 instance(s), target 80 %, and 1 without figures"
)]
#[case("none none", "the metrics API has no figures of cpu of 2 instance(s)")]
#[case("wait new", "no instance has figures of cpu from after its start yet")]
fn the_reason_is_told_in_words(#[case] load: &str, #[case] words: &str) {
    assert_eq!(asked(load, 80).reason, words);
}

#[test]
fn eighty_percent_is_the_target_where_the_pool_does_not_say() {
    let metric = Metric { metric_type: MetricType::Memory, target_per_instance: None };
    let advice = advice(&metric, &instances("1600"), 1, None, at(NOW)).unwrap();
    assert_eq!(advice.instances, 2);
    assert_eq!(advice.reason, "memory at 160 % of the requests on average over 1 instance(s), target 80 %");
}

#[test]
fn a_start_takes_cpu_but_memory_counts_from_the_beginning() {
    let load = instances("new");
    let of = |type_| advice(&metric(type_, 80), &load, 1, None, at(NOW)).unwrap().finding;
    assert_eq!((of(MetricType::Cpu), of(MetricType::Memory)), (Finding::Early, Finding::Above));
}

#[test]
fn who_has_just_started_need_not_be_measured_yet() {
    let load = [ready("p-0").running_since(NOW - 119)];
    let of = |now| {
        let advice = advice(&metric(MetricType::Memory, 80), &load, 1, None, at(now)).unwrap();
        (advice.finding, advice.reason)
    };
    assert_eq!(of(NOW), (Finding::Early, "no instance has figures of memory yet".to_owned()));
    let told = "the metrics API has no figures of memory of 1 instance(s)".to_owned();
    assert_eq!(of(NOW + 1), (Finding::Unmeasured, told));
}

#[test]
fn the_last_figures_of_a_start_count_no_more_when_a_window_lies_after_it() {
    let load = [ready("p-0").running_since(MEASURED - 15 - 120).using(1600, 0, MEASURED)];
    let advice = advice(&metric(MetricType::Cpu, 80), &load, 1, None, at(NOW)).unwrap();
    assert_eq!(advice.finding, Finding::Above);
}

#[test]
fn without_sessions_none_is_needed_however_busy_they_are() {
    let advice = advice(&metric(MetricType::Cpu, 80), &instances("1000 1000"), 0, None, at(NOW)).unwrap();
    assert_eq!((advice.instances, advice.finding), (0, Finding::Unused));
    assert_eq!(advice.reason, "no session needs an instance");
}

#[test]
fn who_comes_first_starts_one_whatever_is_measured() {
    let gone = [going("p-0"), failed("p-1", "")];
    let advice = advice(&metric(MetricType::Cpu, 80), &gone, 200, Some("down"), at(NOW)).unwrap();
    assert_eq!((advice.instances, advice.finding), (1, Finding::First));
    assert_eq!(advice.reason, "200 session(s) and no instance yet");
}

#[test]
fn instances_that_take_no_sessions_do_not_count() {
    let mut load = instances("800");
    load.push(Instance { phase: InstancePhase::Failed, ..ready("p-2").using(8000, 0, MEASURED) });
    let advice = advice(&metric(MetricType::Cpu, 80), &load, 1, None, at(NOW)).unwrap();
    assert_eq!((advice.instances, advice.finding), (1, Finding::OnTarget));
}

#[rstest]
#[case::on_target("500 500", 600, 2, Finding::OnTarget)]
#[case::as_if_it_were_theirs("500 500", 1500, 4, Finding::Above)]
#[case::its_own_end("300 300 300", 100, 2, Finding::Below)]
#[case::nothing_else_is_known("none", 1600, 1, Finding::Unmeasured)]
fn what_one_that_drains_still_uses_is_load_of_those_that_stay(
    #[case] staying: &str,
    #[case] draining_uses: u32,
    #[case] wanted: i32,
    #[case] finding: Finding,
) {
    let mut load = instances(staying);
    load.push(draining("p-9").using(draining_uses, 0, MEASURED));
    let advice = advice(&metric(MetricType::Cpu, 80), &load, 1, None, at(NOW)).unwrap();
    assert_eq!((advice.instances, advice.finding), (wanted, finding), "{}", advice.reason);
}

#[test]
fn what_drains_is_told_with_the_load() {
    let mut load = instances("500 500");
    load.push(draining("p-9").using(600, 0, MEASURED));
    let advice = advice(&metric(MetricType::Cpu, 80), &load, 1, None, at(NOW)).unwrap();
    let words = "cpu at 80 % of the requests on average over 2 instance(s), target 80 %, plus the load of 1 draining, \
                 which is within a tenth of it";
    assert_eq!(advice.reason, words);
}

#[test]
fn a_problem_is_told_when_the_last_figures_are_too_old() {
    let of = |load| {
        advice(&metric(MetricType::Cpu, 80), &instances(load), 1, Some("the API is down"), at(NOW)).unwrap()
    };
    assert_eq!(of("1600").finding, Finding::Above);
    assert_eq!(of("old").reason, "cpu is not measured: the API is down");
    assert!(!of("old").is_news_after(&of("none")));
    assert!(of("old").is_news_after(&asked("old", 80)), "another reason");
    assert!(!asked("1600", 80).is_news_after(&asked("1599", 80)), "only other figures");
}

#[test]
fn drivers_that_request_nothing_are_named() {
    let mut load = instances("500");
    load[0].utilization.as_mut().unwrap().cpu = None;
    let advice = advice(&metric(MetricType::Cpu, 80), &load, 1, None, at(NOW)).unwrap();
    assert_eq!(
        advice.reason,
        "cpu is not measured: not every container of the driver Pods requests cpu; the template's driver, and its sidecars, \
         have to"
    );
}

#[test]
fn pools_that_are_sized_by_sessions_get_no_advice() {
    assert_eq!(advice(&metric(MetricType::ActiveSessions, 20), &instances("1000"), 9, None, at(NOW)), None);
}

fn word() -> impl Strategy<Value = String> {
    let others = prop_oneof![Just("none"), Just("new"), Just("wait"), Just("old")].prop_map(str::to_owned);
    prop_oneof![4 => (0..3000_u32).prop_map(|used| used.to_string()), 1 => others]
}

fn load() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(word(), 1..8)
}

proptest! {
    #[test]
    fn it_never_moves_within_the_tolerance(count in 1..9_usize, target in 1..200_i32, off in -100..=100_i32) {
        let used = (target * 10 + target * 10 * off / 1000).to_string();
        let advice = asked(&vec![used; count].join(" "), target);
        prop_assert_eq!((advice.instances, advice.finding), (i32::try_from(count).unwrap(), Finding::OnTarget));
    }

    #[test]
    fn more_load_never_asks_for_fewer(
        mut load in load(),
        which in any::<prop::sample::Index>(),
        more in 1..2000_u32,
        target in 1..200_i32,
    ) {
        let before = asked(&load.join(" "), target).instances;
        let busier = which.get(&load).parse::<u32>().map(|used| (used + more).to_string());
        if let Ok(busier) = busier {
            let at = which.index(load.len());
            load[at] = busier;
        }
        prop_assert!(asked(&load.join(" "), target).instances >= before);
    }

    #[test]
    fn what_is_not_measured_never_makes_it_move_further(load in load(), target in 1..200_i32) {
        let known: Vec<&str> =
            load.iter().map(String::as_str).filter(|word| word.parse::<u32>().is_ok()).collect();
        prop_assume!(!known.is_empty());
        let (all, current) = (asked(&load.join(" "), target), i32::try_from(load.len()).unwrap());
        let known = asked(&known.join(" "), target);
        match all.finding {
            Finding::Above => prop_assert!(all.instances > current && all.instances <= known.instances),
            Finding::Below => prop_assert!(all.instances <= current && all.instances >= known.instances),
            _ => prop_assert_eq!(all.instances, current),
        }
    }

    #[test]
    fn it_holds_when_nothing_is_measured(load in proptest::collection::vec("none|new|wait|old", 1..8)) {
        let advice = asked(&load.join(" "), 80);
        prop_assert_eq!(advice.instances, i32::try_from(load.len()).unwrap());
        prop_assert!(advice.holds());
    }
}
