use std::pin::pin;

use futures::FutureExt;

use super::*;
use crate::xds::Version;

fn clusters(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn an_envoy_without_a_stream_here_is_not_waited_for() {
    let publisher = Publisher::new();
    assert_eq!(publisher.programmed(None, "a").await, Programmed::NoStream);
    assert_eq!(publisher.programmed(Some("elsewhere"), "a").await, Programmed::NoStream);
}

#[tokio::test]
async fn a_waiter_is_released_by_its_own_envoys_ack_of_its_own_cluster() {
    let publisher = Publisher::new();
    let mine = publisher.register("mine", true);
    let other = publisher.register("other", true);
    let mut waiting = pin!(publisher.programmed(Some("mine"), "a"));
    assert_eq!(waiting.as_mut().now_or_never(), None);

    other.gained(clusters(&["a"]));
    mine.gained(clusters(&["b"]));
    assert_eq!(waiting.as_mut().now_or_never(), None);

    mine.gained(clusters(&["a"]));
    assert_eq!(waiting.now_or_never(), Some(Programmed::Acked));
    assert_eq!(publisher.programmed(Some("mine"), "a").now_or_never(), Some(Programmed::Acked));
}

#[tokio::test]
async fn any_one_stream_of_an_envoy_suffices() {
    let publisher = Publisher::new();
    let _old = publisher.register("envoy", true);
    let new = publisher.register("envoy", true);
    new.gained(clusters(&["a"]));
    assert_eq!(publisher.programmed(Some("envoy"), "a").now_or_never(), Some(Programmed::Acked));
    drop(new);
    assert_eq!(publisher.programmed(Some("envoy"), "a").now_or_never(), None);
}

#[tokio::test]
async fn a_cluster_about_to_be_removed_is_not_programmed() {
    let publisher = Publisher::new();
    let stream = publisher.register("envoy", true);
    stream.gained(clusters(&["a"]));
    stream.lost(&clusters(&["a"]));
    assert_eq!(publisher.programmed(Some("envoy"), "a").now_or_never(), None);
}

#[tokio::test]
async fn waiters_of_an_envoy_that_leaves_are_told() {
    let publisher = Publisher::new();
    let stream = publisher.register("envoy", true);
    let mut waiting = pin!(publisher.programmed(Some("envoy"), "a"));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    drop(stream);
    assert_eq!(waiting.now_or_never(), Some(Programmed::NoStream));
    assert!(publisher.connections().nodes.is_empty());
}

#[tokio::test]
async fn abandoned_waiters_leave_nothing_behind() {
    let publisher = Publisher::new();
    let _stream = publisher.register("envoy", true);
    {
        let mut first = Box::pin(publisher.programmed(Some("envoy"), "a"));
        let mut second = Box::pin(publisher.programmed(Some("envoy"), "a"));
        assert_eq!((first.as_mut().now_or_never(), second.as_mut().now_or_never()), (None, None));
        drop(first);
        assert_eq!(second.as_mut().now_or_never(), None);
        assert_eq!(publisher.connections().nodes["envoy"].waiting.len(), 1);
    }
    assert!(publisher.connections().nodes["envoy"].waiting.is_empty());
}

#[tokio::test]
async fn publishing_the_same_again_wakes_nobody() {
    let publisher = Publisher::new();
    assert!(!publisher.is_published());
    publisher.publish(Snapshot::default());
    assert!(publisher.is_published());

    let mut watch = publisher.watch();
    watch.mark_unchanged();
    publisher.publish(Snapshot::default());
    assert!(!watch.has_changed().expect("the publisher lives"));
}

#[test]
fn refusals_are_listed_until_they_are_over() {
    let publisher = Publisher::new();
    let stream = publisher.register("envoy", true);
    let why = Refused { version: Version::reported("1"), message: "no".to_owned() };
    stream.answered(Kind::Cluster, &BTreeMap::from([("a".to_owned(), why.clone())]), None);
    let listed = publisher.rejected();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].resource.as_str(), &listed[0].why), ("a", &why));

    stream.answered(Kind::Cluster, &BTreeMap::new(), None);
    assert!(publisher.rejected().is_empty());
}

#[test]
fn an_envoy_is_listed_once_for_two_streams_with_the_same_refusal() {
    let publisher = Publisher::new();
    let streams =
        [publisher.register("b", true), publisher.register("b", false), publisher.register("a", true)];
    let why = Refused { version: Version::reported("1"), message: "no".to_owned() };
    for stream in &streams[..2] {
        stream.answered(Kind::Secret, &BTreeMap::from([("s".to_owned(), why.clone())]), None);
    }
    let nodes: Vec<String> = publisher.connected().into_iter().map(|it| it.node).collect();
    assert_eq!(nodes, ["a", "b"]);
    assert_eq!(publisher.rejected().len(), 1);
}

/// That Envoy has, on this stream, all that is published of these types.
fn settles(publisher: &Publisher, stream: &Registration, kinds: &[Kind]) {
    let Editions(newest) = publisher.editions();
    for (kind, edition) in Kind::ALL.into_iter().zip(newest).filter(|(kind, _)| kinds.contains(kind)) {
        stream.answered(kind, &BTreeMap::new(), Some(edition));
    }
}

fn one_route() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let body = envoy_types::pb::google::protobuf::Any::default();
    snapshot.insert(Kind::Route, "r", crate::xds::Resource { version: Version::reported("1"), body });
    snapshot
}

#[test]
fn an_envoy_is_settled_when_it_is_so_for_every_type_on_one_of_its_streams() {
    let publisher = Publisher::new();
    publisher.publish(Snapshot::default());
    let (one, other) = (publisher.register("a", true), publisher.register("a", false));
    let is_settled = || publisher.connected()[0].settled.contain(&publisher.editions());
    let (last, others) = Kind::ALL.split_last().unwrap();
    settles(&publisher, &one, others);
    assert!(!is_settled());
    settles(&publisher, &other, &[*last]);
    assert!(is_settled());
}

#[test]
fn what_was_just_published_no_envoy_has_but_it_has_what_it_had() {
    let publisher = Publisher::new();
    publisher.publish(Snapshot::default());
    let (stream, before) = (publisher.register("a", true), publisher.editions());
    settles(&publisher, &stream, &Kind::ALL);
    publisher.publish(one_route());
    let has = |editions| publisher.connected()[0].settled.contain(&editions);
    assert!(!has(publisher.editions()), "the stream has not even looked at it");
    assert!(has(before));
    stream.answered(Kind::Route, &BTreeMap::new(), None);
    assert!(has(before) && !has(publisher.editions()), "a response is on its way");
    settles(&publisher, &stream, &[Kind::Route]);
    assert!(has(publisher.editions()));
}

#[test]
fn who_watches_answers_hears_of_each_change_and_of_nothing_else() {
    let publisher = Publisher::new();
    publisher.publish(Snapshot::default());
    let all = Some(publisher.editions().0[0]);
    let mut answers = publisher.answers();
    let mut heard = || {
        let heard = answers.has_changed().expect("the publisher lives");
        answers.mark_unchanged();
        heard
    };
    let stream = publisher.register("envoy", true);
    let why = Refused { version: Version::reported("1"), message: "no".to_owned() };
    let refused = BTreeMap::from([("a".to_owned(), why)]);

    stream.answered(Kind::Cluster, &BTreeMap::new(), None);
    assert!(!heard(), "nothing is refused, as before, and the Envoy has not answered");
    stream.answered(Kind::Cluster, &BTreeMap::new(), all);
    assert!(heard(), "it has all there is of this type");
    stream.answered(Kind::Cluster, &BTreeMap::new(), all);
    assert!(!heard(), "as before");
    stream.answered(Kind::Cluster, &refused, all);
    assert!(heard());
    stream.answered(Kind::Cluster, &refused, all);
    assert!(!heard(), "the same is refused, as before");
    drop(stream);
    assert!(heard(), "an Envoy that is gone refuses nothing");
    drop(publisher.register("envoy", true));
    assert!(!heard());
}

#[tokio::test]
async fn a_stream_without_clusters_is_not_waited_for() {
    let publisher = Publisher::new();
    let _routes = publisher.register("envoy", false);
    assert_eq!(publisher.programmed(Some("envoy"), "a").await, Programmed::NoStream);

    let clusters = publisher.register("envoy", true);
    let mut waiting = pin!(publisher.programmed(Some("envoy"), "a"));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    drop(clusters);
    assert_eq!(waiting.now_or_never(), Some(Programmed::NoStream));
}
