//! No trailers of a request reach Spark. No client of Spark sends any, and they count as headers there: long ones would end
//! the connection that the request shares with those of other users (`edge::forwarded_headers`).
//!
//! Not here: headers, which the check decides about, and trailers of answers, which are how gRPC tells an error.

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{
    HeaderMutation as Mutation,
    header_mutation::{Action, RemoveOnMatch},
};
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::{HeaderMutation, Mutations};
use envoy_types::pb::envoy::r#type::matcher::v3::{
    RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};

use super::beginning;

pub const FILTER: &str = "envoy.filters.http.header_mutation";

/// One filter for two things: [`beginning`] needs the other.
pub fn of_requests_removed() -> HeaderMutation {
    let any = RegexMatcher { regex: ".*".to_owned(), ..Default::default() };
    let any = StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(any)), ..Default::default() };
    let remove = Action::RemoveOnMatch(RemoveOnMatch { key_matcher: Some(any) });
    HeaderMutation {
        mutations: Some(Mutations {
            request_mutations: beginning::mark(),
            request_trailers_mutations: vec![Mutation { action: Some(remove) }],
            ..Default::default()
        }),
        ..Default::default()
    }
}
