//! Reads the user's groups out of a token's claims or out of what the userinfo endpoint says. Pure.
//!
//! Does not follow `_claim_sources`: their URLs lead to wherever the token says (Microsoft's to an API that it has shut
//! down).

use std::sync::Arc;

use serde_json::{Map, Value};

use super::claims;
use crate::model::{UntoldGroups, UntoldReason};

/// The groups, or why the claims do not tell them. An empty list of groups is told.
pub(super) fn read(claims: &Map<String, Value>, claim: &Arc<str>) -> Result<Vec<String>, UntoldGroups> {
    let groups = claims::strings(claims, claim);
    let is_told = match claims::at(claims, claim) {
        Some(Value::Array(values)) => values.is_empty() || !groups.is_empty(),
        Some(Value::String(_)) => true,
        _ => false,
    };
    if is_told {
        return Ok(groups);
    }
    let reason = if left_out(claims, claim) { UntoldReason::LeftOut } else { UntoldReason::NotInToken };
    Err(UntoldGroups { claim: Arc::clone(claim), reason })
}

/// OpenID Connect Core §5.6.2 names claims that are elsewhere in `_claim_names`; Microsoft's implicit flow says
/// `hasgroups` instead.
fn left_out(claims: &Map<String, Value>, claim: &str) -> bool {
    let names = claims.get("_claim_names").and_then(Value::as_object);
    let outermost = claim.split('.').next().unwrap_or(claim);
    names.is_some_and(|names| names.contains_key(claim) || names.contains_key(outermost))
        || claims::says(claims, "hasgroups", "true")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::several(json!({"groups": ["a", "b"]}), Ok(vec!["a", "b"]))]
    #[case::one(json!({"groups": "a"}), Ok(vec!["a"]))]
    #[case::told_to_be_none(json!({"groups": []}), Ok(vec![]))]
    #[case::no_claim(json!({"roles": ["a"]}), Err(UntoldReason::NotInToken))]
    #[case::no_names(json!({"groups": [{"id": 7}]}), Err(UntoldReason::NotInToken))]
    #[case::null(json!({"groups": null}), Err(UntoldReason::NotInToken))]
    #[case::microsoft_overage(
        json!({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.windows.net/x"}}}),
        Err(UntoldReason::LeftOut)
    )]
    #[case::microsoft_implicit(json!({"hasgroups": true}), Err(UntoldReason::LeftOut))]
    #[case::microsoft_implicit_as_text(json!({"hasgroups": "true"}), Err(UntoldReason::LeftOut))]
    #[case::other_claims_left_out(json!({"_claim_names": {"address": "src1"}}), Err(UntoldReason::NotInToken))]
    #[case::there_in_spite_of_it(json!({"groups": ["a"], "hasgroups": true}), Ok(vec!["a"]))]
    fn groups_are_told_or_it_is_told_why_not(
        #[case] claims: Value,
        #[case] expected: Result<Vec<&str>, UntoldReason>,
    ) {
        let read = read(claims.as_object().unwrap(), &"groups".into());
        let expected = expected.map(|groups| groups.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(read.map_err(|untold| untold.reason), expected);
    }

    #[test]
    fn a_nested_claim_can_be_left_out_with_what_is_around_it() {
        let claims = json!({"_claim_names": {"realm_access": "src1"}});
        let untold = read(claims.as_object().unwrap(), &"realm_access.roles".into()).unwrap_err();
        assert_eq!(untold.reason, UntoldReason::LeftOut);
    }
}
