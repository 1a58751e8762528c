//! Statuses that are read as far as this version understands them.
//!
//! After a rollback a status may hold words of a later version. What cannot be read counts as not there, and the rest
//! stands: an object that is skipped for one word would look as if it did not exist, and its drivers as if nobody used
//! them. Specs are no concern of this module, since nobody may guess what an administrator wants.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Characters of an unknown word in a log line.
const LONGEST_WORD: usize = 60;

/// A status of which every field may be left out.
pub trait Status: DeserializeOwned + Default {
    /// Fields of the parts of a list that cannot be left out, and what stands for a word that is not known.
    const STAND_INS: &'static [(&'static str, &'static str)] = &[];
}

/// What could be read of a status. In JSON and in the schema it is the status alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Lenient<T> {
    pub status: T,
    #[serde(skip)]
    pub unread: Vec<Unread>,
}

/// A part of a status that counts as not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The status's own field in which it is.
    pub field: String,
    /// Where it is, and the word that stands there if it is one: `instances[0].state is "Hibernating"`.
    pub problem: String,
}

impl<T> Lenient<T> {
    /// Whether something in this field of the status could not be read.
    pub fn lacks(&self, field: &str) -> bool {
        self.unread.iter().any(|unread| unread.field == field)
    }
}

impl<T> Deref for Lenient<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.status
    }
}

impl<T> From<T> for Lenient<T> {
    fn from(status: T) -> Self {
        Self { status, unread: Vec::new() }
    }
}

impl<'de, T: Status> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Ok(status) = T::deserialize(&value) {
            return Ok(status.into());
        }
        let mut reading = Reading::<T>::default();
        let kept = reading.fields(value);
        let status = T::deserialize(Value::Object(kept)).unwrap_or_default();
        Ok(Self { status, unread: reading.unread })
    }
}

impl<T: JsonSchema> JsonSchema for Lenient<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// The slow way, which is gone only for a status that cannot be read as a whole.
struct Reading<T> {
    unread: Vec<Unread>,
    of: std::marker::PhantomData<T>,
}

impl<T> Default for Reading<T> {
    fn default() -> Self {
        Self { unread: Vec::new(), of: std::marker::PhantomData }
    }
}

impl<T: Status> Reading<T> {
    /// The fields that can be read, each as far as it can.
    fn fields(&mut self, status: Value) -> Map<String, Value> {
        let Value::Object(fields) = status else {
            self.note("", "it", &status);
            return Map::new();
        };
        let mut kept = Map::new();
        for (field, value) in fields {
            let fits = |value: &Value| is_readable::<T>(&field, value.clone());
            if let Some(value) = self.part(&field, &field, value, &fits) {
                kept.insert(field, value);
            }
        }
        kept
    }

    fn part(
        &mut self,
        field: &str,
        path: &str,
        value: Value,
        fits: &dyn Fn(&Value) -> bool,
    ) -> Option<Value> {
        if fits(&value) {
            return Some(value);
        }
        match value {
            Value::Array(items) => {
                let fits_alone = |item: &Value| fits(&Value::Array(vec![item.clone()]));
                let read = |(n, item)| self.part(field, &format!("{path}[{n}]"), item, &fits_alone);
                Some(Value::Array(items.into_iter().enumerate().filter_map(read).collect()))
            }
            Value::Object(object) => self.object(field, path, object, fits),
            value => {
                self.note(field, path, &value);
                None
            }
        }
    }

    /// Without the one key that is not understood, if there is such a one. With a stand-in where it cannot be left out.
    fn object(
        &mut self,
        field: &str,
        path: &str,
        object: Map<String, Value>,
        fits: &dyn Fn(&Value) -> bool,
    ) -> Option<Value> {
        let mut stood_in = object.clone();
        for (key, word) in T::STAND_INS {
            stood_in.entry(*key).and_modify(|value| *value = Value::from(*word));
        }
        for candidate in [object.clone(), stood_in] {
            let differs =
                |(key, value): (&String, &Value)| (candidate.get(key) != Some(value)).then(|| key.clone());
            let replaced: Vec<String> = object.iter().filter_map(differs).collect();
            let whole = std::iter::once(None).chain(candidate.keys().map(Some));
            for left_out in whole {
                let mut without = candidate.clone();
                if let Some(key) = left_out {
                    without.remove(key);
                }
                let without = Value::Object(without);
                if fits(&without) {
                    let left_out = left_out.filter(|key| !replaced.contains(key));
                    for key in replaced.iter().chain(left_out) {
                        self.note(field, &format!("{path}.{key}"), &object[key]);
                    }
                    return Some(without);
                }
            }
        }
        self.note(field, path, &Value::Object(object));
        None
    }

    fn note(&mut self, field: &str, path: &str, value: &Value) {
        let problem = match value {
            Value::String(word) => {
                let word: String = word.chars().take(LONGEST_WORD).collect();
                format!("{path} is \"{}\"", word.escape_debug())
            }
            _ => format!("{path} is not as this version expects it"),
        };
        self.unread.push(Unread { field: field.to_owned(), problem });
    }
}

fn is_readable<T: Status>(field: &str, value: Value) -> bool {
    T::deserialize(Value::Object(Map::from_iter([(field.to_owned(), value)]))).is_ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::{
        DrainReason, InstanceState, SessionState, SparkApplicationStatus, SparkInteractiveSessionStatus,
        SparkSessionPoolStatus,
    };

    fn read<T: Status>(status: Value) -> (T, Vec<String>) {
        let Lenient { status, unread } = serde_json::from_value(status).unwrap();
        (status, unread.into_iter().map(|unread| unread.problem).collect())
    }

    #[test]
    fn a_status_that_is_understood_is_read_as_it_is_and_written_so() {
        let status = json!({ "nextOrdinal": 7, "instances": [{ "name": "p-0", "state": "Running" }] });
        let lenient: Lenient<SparkSessionPoolStatus> = serde_json::from_value(status).unwrap();
        assert_eq!((lenient.next_ordinal, lenient.unread.len()), (7, 0));
        let plain = serde_json::to_value(&lenient.status).unwrap();
        assert_eq!(serde_json::to_value(&lenient).unwrap(), plain);
    }

    #[test]
    fn an_unknown_word_costs_its_own_field_alone() {
        let at = "2027-01-15T08:00:00Z";
        let (status, unread) = read::<SparkSessionPoolStatus>(json!({
            "nextOrdinal": 7,
            "scaleDown": { "since": at, "to": "several" },
            "instances": [
                { "name": "p-0", "state": "Hibernating", "readyAt": at },
                { "name": "p-1", "state": "Draining", "drain": { "reason": "NodeGoes", "since": at } },
                { "name": "p-2", "state": "Thawing", "drain": { "reason": "NodeGoes", "since": at } },
                { "name": "p-3", "state": "Draining", "drain": { "reason": "ScaleDown", "since": at } },
                "p-4",
            ],
        }));
        assert_eq!((status.next_ordinal, status.scale_down), (7, None));
        let told: Vec<_> = status
            .instances
            .iter()
            .map(|it| (&*it.name, it.state, it.drain.as_ref().map(|drain| drain.reason)))
            .collect();
        let expected = [
            ("p-0", InstanceState::Pending, None),
            ("p-1", InstanceState::Draining, None),
            ("p-2", InstanceState::Pending, None),
            ("p-3", InstanceState::Draining, Some(DrainReason::ScaleDown)),
        ];
        assert_eq!(told, expected);
        assert!(status.instances[0].ready_at.is_some());
        let mut unread = unread;
        unread.sort();
        let expected = [
            "instances[0].state is \"Hibernating\"",
            "instances[1].drain is not as this version expects it",
            "instances[2].drain is not as this version expects it",
            "instances[2].state is \"Thawing\"",
            "instances[4] is \"p-4\"",
            "scaleDown is not as this version expects it",
        ];
        assert_eq!(unread, expected);
    }

    #[test]
    fn a_session_keeps_its_place_whatever_its_state_is_called() {
        let (status, unread) = read::<SparkInteractiveSessionStatus>(json!({
            "state": "Suspended", "assignedInstance": "p-0", "disconnectCause": "Evicted",
            "wait": { "phase": "Thawing", "asOf": "2027-01-15T08:00:00Z" },
        }));
        assert_eq!(status.assigned_instance.as_deref(), Some("p-0"));
        assert_eq!((status.state, status.disconnect_cause, status.wait), (SessionState::Pending, None, None));
        assert_eq!(unread.len(), 3, "{unread:?}");
    }

    #[rstest]
    #[case::another_shape(json!({ "applicationState": "RUNNING" }), "")]
    #[case::another_type(json!({ "applicationState": { "state": 3 } }), "")]
    #[case::a_new_word(json!({ "applicationState": { "state": "HIBERNATING" } }), "HIBERNATING")]
    fn a_spark_application_is_there_whatever_its_status_looks_like(
        #[case] status: Value,
        #[case] state: &str,
    ) {
        let (status, _) = read::<SparkApplicationStatus>(status);
        assert_eq!(status.application_state.unwrap_or_default().state, state);
    }

    #[rstest]
    #[case(json!("gone"))]
    #[case(json!(7))]
    fn a_status_that_is_none_is_dropped(#[case] status: Value) {
        let (read, unread) = read::<SparkSessionPoolStatus>(status);
        assert_eq!((read, unread.len()), (SparkSessionPoolStatus::default(), 1));
    }
}
