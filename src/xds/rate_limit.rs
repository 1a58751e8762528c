use std::num::NonZeroU32;
use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::{RateLimit, rate_limit};

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::{
    LocalRateLimitDescriptor, rate_limit_descriptor::Entry,
};
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, TokenBucket};

use super::proto::{number, seconds};
use crate::model::{Denial, DenialKind};

/// How a local reply tells that it is this filter's: an expression (CEL).
pub const LIMITED: &str = r#"response.code_details == "local_rate_limited""#;

/// How many requests Envoy lets through in a second. `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestRates {
    /// Of all clients together.
    pub in_all: Option<NonZeroU32>,
    /// Of one address, so that a client that asks in a loop uses up its own share and not everybody's.
    pub of_an_address: Option<NonZeroU32>,
}

/// Of so many addresses Envoy keeps a count, in each listener. The one that asked least recently gives way to the next, and then
/// begins anew, under the limit of all.
const COUNTED_ADDRESSES: u32 = 10_000;
/// One household or server has as many IPv6 addresses as it likes, in one network of this length.
const IPV6_PREFIX: u32 = 64;
const ADDRESS: &str = "masked_remote_address";

/// Protects the operator from clients that ask in a loop: it stands before the check. An instance needs no such
/// protection, since its sessions are counted. What the limit of an address refuses does not count for all.
pub fn local_rate_limit(rates: RequestRates) -> Option<LocalRateLimit> {
    if rates == RequestRates::default() {
        return None;
    }
    // Both are 0 % by default: the filter would do nothing.
    let always = || {
        let hundred = FractionalPercent { numerator: 100, ..Default::default() };
        Some(RuntimeFractionalPercent { default_value: Some(hundred), ..Default::default() })
    };
    let any_number = NonZeroU32::MAX;
    Some(LocalRateLimit {
        stat_prefix: "spark".to_owned(),
        token_bucket: Some(bucket(rates.in_all.unwrap_or(any_number))),
        rate_limits: rates.of_an_address.iter().map(|_| by_address()).collect(),
        descriptors: rates.of_an_address.into_iter().map(each_address).collect(),
        max_dynamic_descriptors: number(COUNTED_ADDRESSES),
        filter_enabled: always(),
        filter_enforced: always(),
        // gRPC clients take the 429 for UNAVAILABLE otherwise, and come back at once.
        rate_limited_as_resource_exhausted: true,
        ..Default::default()
    })
}

fn bucket(per_second: NonZeroU32) -> TokenBucket {
    TokenBucket {
        // A burst of two seconds' worth: notebooks that all come back after an outage.
        max_tokens: per_second.get().saturating_mul(2),
        tokens_per_fill: number(per_second.get()),
        fill_interval: seconds(1),
    }
}

fn by_address() -> RateLimit {
    let masked = rate_limit::action::MaskedRemoteAddress {
        v4_prefix_mask_len: number(32),
        v6_prefix_mask_len: number(IPV6_PREFIX),
    };
    let by_address = rate_limit::action::ActionSpecifier::MaskedRemoteAddress(masked);
    let action = rate_limit::Action { action_specifier: Some(by_address) };
    RateLimit { actions: vec![action], ..Default::default() }
}

/// Without a value, it stands for each that there is.
fn each_address(per_second: NonZeroU32) -> LocalRateLimitDescriptor {
    let any = Entry { key: ADDRESS.to_owned(), ..Default::default() };
    LocalRateLimitDescriptor {
        entries: vec![any],
        token_bucket: Some(bucket(per_second)),
        ..Default::default()
    }
}

/// What those hear who come beyond a limit. Envoy does not say which of the two it was. gRPC clients are not told to come back by themselves: the more of them
/// there are, the less it would help.
pub fn refusal(rates: RequestRates) -> Option<Denial> {
    let in_all = rates
        .in_all
        .map(|number| (format!("{number} per second from all users together"), "--envoy-rate-limit"));
    let of_an_address = rates
        .of_an_address
        .map(|number| (format!("{number} per second from one address"), "--envoy-rate-limit-per-address"));
    let (limits, flags): (Vec<_>, Vec<_>) = of_an_address.into_iter().chain(in_all).unzip();
    if limits.is_empty() {
        return None;
    }
    let message = format!(
        "Too many requests: the gateway takes {}. Nothing was done; try again in a few seconds. If this happens often, its \
         administrators can raise {}.",
        limits.join(", and "),
        flags.join(" or ")
    );
    let retry_after = Some(Duration::from_secs(1));
    Some(Denial { retry_after, ..Denial::new(DenialKind::RateLimited, message) })
}
