//! Whether an instance was made from the pool's present template.
//!
//! Only the template counts: what the operator itself adds to it changes with the operator's version, and a new version
//! must not restart every driver. Nor does the session policy, which applies to sessions, or what no driver is told.

use std::collections::HashSet;

use crate::api::SparkSessionPoolSpec;
use crate::model::{Instance, Pool};

/// How the Spark Operator restarts and removes applications: of a pool's instances that is for the pool to decide.
pub const NOT_PASSED_ON: [&str; 2] = ["restartPolicy", "timeToLiveSeconds"];

/// The same for templates that come to the same, in whatever order they say it.
pub fn hash(spec: &SparkSessionPoolSpec) -> String {
    let mut template = spec.spark_application_template.spec.clone();
    for field in NOT_PASSED_ON {
        template.remove(field);
    }
    let mut template = serde_json::Value::Object(template);
    template.sort_all_objects();
    blake3::hash(template.to_string().as_bytes()).to_hex()[..16].to_owned()
}

/// Of these instances, the names of those that were made from an earlier template of the pool. One that does not say
/// what it was made from counts as made from this.
pub fn outdated<'a>(pool: &Pool, instances: &'a [Instance]) -> HashSet<&'a str> {
    let mut present = None;
    let mut differs = |template: &String| template != present.get_or_insert_with(|| hash(&pool.spec));
    let marked =
        instances.iter().filter_map(|instance| Some((instance.name.as_str(), instance.template.as_ref()?)));
    marked.filter(|(_, template)| differs(template)).map(|(name, _)| name).collect()
}
