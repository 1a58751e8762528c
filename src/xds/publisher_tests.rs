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
    let mine = publisher.register("mine");
    let other = publisher.register("other");
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
    let _old = publisher.register("envoy");
    let new = publisher.register("envoy");
    new.gained(clusters(&["a"]));
    assert_eq!(publisher.programmed(Some("envoy"), "a").now_or_never(), Some(Programmed::Acked));
    drop(new);
    assert_eq!(publisher.programmed(Some("envoy"), "a").now_or_never(), None);
}

#[tokio::test]
async fn a_cluster_about_to_be_removed_is_not_programmed() {
    let publisher = Publisher::new();
    let stream = publisher.register("envoy");
    stream.gained(clusters(&["a"]));
    stream.lost(&clusters(&["a"]));
    assert_eq!(publisher.programmed(Some("envoy"), "a").now_or_never(), None);
}

#[tokio::test]
async fn waiters_of_an_envoy_that_leaves_are_told() {
    let publisher = Publisher::new();
    let stream = publisher.register("envoy");
    let mut waiting = pin!(publisher.programmed(Some("envoy"), "a"));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    drop(stream);
    assert_eq!(waiting.now_or_never(), Some(Programmed::NoStream));
    assert!(publisher.connections().nodes.is_empty());
}

#[tokio::test]
async fn abandoned_waiters_leave_nothing_behind() {
    let publisher = Publisher::new();
    let _stream = publisher.register("envoy");
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
    let stream = publisher.register("envoy");
    let why = Refused { version: Version::reported("1"), message: "no".to_owned() };
    stream.refused(Kind::Cluster, &BTreeMap::from([("a".to_owned(), why.clone())]));
    let listed = publisher.rejected();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].resource.as_str(), &listed[0].why), ("a", &why));

    stream.refused(Kind::Cluster, &BTreeMap::new());
    assert!(publisher.rejected().is_empty());
}
