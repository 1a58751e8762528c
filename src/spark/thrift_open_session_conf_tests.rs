use rstest::rstest;

use super::*;

const K: &str = "spark.sql.shuffle.partitions";

fn keys<'a>(merged: &'a Merged<'_>) -> Vec<&'a str> {
    merged.entries.iter().map(|(key, _)| std::str::from_utf8(key).unwrap()).collect()
}

fn conf(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn what_the_client_does_not_set_is_added_as_jdbc_would_set_it() {
    let conf = conf(&[("a", "1"), ("b", "2")]);
    let merged = merge(&[(b"use:database", b"sales")], &conf, |_| false);
    assert_eq!(keys(&merged), ["use:database", "set:hiveconf:a", "set:hiveconf:b"]);
    assert_eq!(&*merged.entries[1].1, b"1");
    assert!(merged.changed && merged.withheld.is_empty());
}

#[test]
fn without_anything_to_add_nothing_is_changed() {
    let conf = conf(&[("a", "2")]);
    let merged = merge(&[(b"set:hiveconf:a", b"1"), (b"use:database", b"x")], &conf, |_| false);
    assert!(!merged.changed);
}

/// Each form was tried with Spark 4.1.4: the value that `SET` shows afterwards is the client's, or not.
#[rstest]
#[case::jdbc_parameter("set:hiveconf:{K}", true)]
#[case::jdbc_variable("set:hivevar:{K}", true)]
#[case::bare("set:{K}", true)]
#[case::with_space_that_the_server_trims("set: hiveconf:{K} ", true)]
#[case::pyhive_s_configuration("{K}", false)]
#[case::system_property("set:system:{K}", false)]
#[case::metastore("set:metaconf:{K}", false)]
fn a_client_s_own_value_wins_where_it_has_an_effect(#[case] form: &str, #[case] wins: bool) {
    let key = form.replace("{K}", K);
    let conf = conf(&[(K, "pool")]);
    let merged = merge(&[(key.as_bytes(), b"mine")], &conf, |_| false);
    let added = "set:hiveconf:spark.sql.shuffle.partitions";
    let expected = if wins { vec![key.as_str()] } else { vec![key.as_str(), added] };
    assert_eq!(keys(&merged), expected);
}

#[rstest]
#[case("set:hiveconf:{K}")]
#[case("set:hivevar:{K}")]
#[case("set:{K}")]
#[case("set:\t hiveconf:{K}\u{1}")]
#[case("set:hiveconf: {K}")]
#[case("set:system:{K}")]
#[case("set:metaconf:{K}")]
#[case("{K}")]
fn a_protected_key_is_taken_out_in_every_form(#[case] form: &str) {
    let key = form.replace("{K}", K);
    let conf = conf(&[(K, "pool")]);
    let merged = merge(&[(key.as_bytes(), b"mine"), (b"set:hiveconf:b", b"2")], &conf, |key| key == K);
    assert_eq!(keys(&merged), ["set:hiveconf:b", "set:hiveconf:spark.sql.shuffle.partitions"]);
    assert_eq!(&*merged.entries[1].1, b"pool");
    assert_eq!(Vec::from_iter(&merged.withheld), [K]);
    assert!(merged.changed);
}

#[test]
fn protection_of_everything_leaves_the_database_alone() {
    let conf = conf(&[]);
    let merged = merge(&[(b"use:database", b"sales"), (b"set:env:X", b"1")], &conf, |_| true);
    assert_eq!(keys(&merged), ["use:database", "set:env:X"]);
    assert!(!merged.changed);
}
