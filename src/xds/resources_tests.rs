use envoy_types::pb::google::protobuf::Any;

use super::*;
use crate::xds::Version;

fn resources(versions: &[(&str, &str)]) -> Resources {
    let mut all = Resources::default();
    for (name, version) in versions {
        let resource = Resource { version: Version::reported(*version), body: Any::default() };
        all.insert((*name).to_owned(), Arc::new(resource));
    }
    all
}

fn changed(resources: &Resources, seen: Edition) -> Option<Vec<&str>> {
    resources.changed_since(seen).map(|names| names.iter().map(String::as_str).collect())
}

#[test]
fn an_edition_names_what_was_added_changed_and_removed() {
    let first = resources(&[("a", "1"), ("b", "1"), ("c", "1")]).succeeding(&Resources::default());
    let second = resources(&[("a", "1"), ("b", "2"), ("d", "1")]).succeeding(&first);
    assert_eq!(changed(&second, first.edition()), Some(vec!["b", "c", "d"]));
    assert_eq!(changed(&second, second.edition()), Some(vec![]));
}

#[test]
fn who_has_missed_an_edition_or_knows_none_has_to_look_at_everything() {
    let first = resources(&[("a", "1")]).succeeding(&Resources::default());
    let third = resources(&[]).succeeding(&resources(&[("a", "2")]).succeeding(&first));
    assert_eq!(changed(&third, first.edition()), None);
    assert_eq!(changed(&first, Edition::default()), None);
    assert_eq!(changed(&resources(&[("a", "1")]), Edition::default()), None);
}

#[test]
fn publishing_the_same_again_is_no_new_edition() {
    let first = resources(&[("a", "1")]).succeeding(&Resources::default());
    assert_eq!(resources(&[("a", "1")]).succeeding(&first).edition(), first.edition());
}

#[test]
fn of_many_the_few_that_change_are_found() {
    let names: Vec<String> = (0..5_000).map(|n| format!("cluster-{n:04}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let first = resources(&all).succeeding(&Resources::default());
    let mut next = first.clone();
    next.remove("cluster-0000");
    let replaced = Resource { version: Version::reported("2"), body: Any::default() };
    next.insert("cluster-2500".to_owned(), Arc::new(replaced.clone()));
    next.insert("cluster-9999".to_owned(), Arc::new(replaced));
    let next = next.succeeding(&first);
    let expected = vec!["cluster-0000", "cluster-2500", "cluster-9999"];
    assert_eq!(changed(&next, first.edition()), Some(expected));
    assert!(Arc::ptr_eq(&first.all()["cluster-0001"], &next.all()["cluster-0001"]));
}

#[test]
fn what_is_changed_after_publishing_is_not_that_edition_any_more() {
    let first = resources(&[("a", "1")]).succeeding(&Resources::default());
    let mut changed = first.clone();
    changed
        .insert("b".to_owned(), Arc::new(Resource { version: Version::reported("1"), body: Any::default() }));
    assert_eq!(changed.changed_since(first.edition()), None);
    assert_eq!(first.all().len(), 1);
}
