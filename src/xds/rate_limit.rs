use std::num::NonZeroU32;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, TokenBucket};

use super::proto::{number, seconds};
use crate::model::{Denial, DenialKind};

/// How a local reply tells that it is this filter's: an expression (CEL).
pub const LIMITED: &str = r#"response.code_details == "local_rate_limited""#;

/// Protects the operator from clients that ask in a loop: it stands before the check. An instance needs no such
/// protection, since its sessions are counted.
pub fn local_rate_limit(per_second: NonZeroU32) -> LocalRateLimit {
    // Both are 0 % by default: the filter would do nothing.
    let always = || {
        let hundred = FractionalPercent { numerator: 100, ..Default::default() };
        Some(RuntimeFractionalPercent { default_value: Some(hundred), ..Default::default() })
    };
    LocalRateLimit {
        stat_prefix: "spark".to_owned(),
        token_bucket: Some(TokenBucket {
            // A burst of two seconds' worth: notebooks that all come back after an outage.
            max_tokens: per_second.get().saturating_mul(2),
            tokens_per_fill: number(per_second.get()),
            fill_interval: seconds(1),
        }),
        filter_enabled: always(),
        filter_enforced: always(),
        // gRPC clients take the 429 for UNAVAILABLE otherwise, and come back at once.
        rate_limited_as_resource_exhausted: true,
        ..Default::default()
    }
}

/// What those hear who come beyond the limit. gRPC clients are not told to come back by themselves: the more of them
/// there are, the less it would help.
pub fn refusal(per_second: NonZeroU32) -> Denial {
    let message = format!(
        "Too many requests: the gateway takes {per_second} per second, from all users together. Nothing was done; try \
         again in a few seconds. If this happens often, its administrators can raise --envoy-rate-limit."
    );
    let retry_after = Some(Duration::from_secs(1));
    Denial { retry_after, ..Denial::new(DenialKind::RateLimited, message) }
}
