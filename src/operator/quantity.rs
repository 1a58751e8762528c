//! Kubernetes' quantities (`500m`, `1408Mi`, `6082165n`) as whole numbers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_quantity::ParsedQuantity;

/// `None` for what is no quantity, or a negative one.
pub fn millis(quantity: &Quantity) -> Option<u64> {
    times(quantity, 1000.0)
}

/// `None` for what is no quantity, or a negative one.
pub fn units(quantity: &Quantity) -> Option<u64> {
    times(quantity, 1.0)
}

fn times(quantity: &Quantity, factor: f64) -> Option<u64> {
    let parsed = ParsedQuantity::try_from(quantity).ok()?;
    let value = (parsed.to_bytes_f64()? * factor).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and not negative")]
    (value >= 0.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::cores("2", Some(2000))]
    #[case::a_part("0.5", Some(500))]
    #[case::thousandths("1250m", Some(1250))]
    #[case::as_metrics_servers_write("6082165n", Some(6))]
    #[case::smaller_than_all("1n", Some(0))]
    #[case::exponent("1e1", Some(10_000))]
    #[case::nothing("", None)]
    #[case::no_number("many", None)]
    #[case::negative("-1", None)]
    #[case::not_a_number("NaN", None)]
    #[case::endless("1e400", None)]
    fn cpu(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(millis(&Quantity(text.to_owned())), expected);
    }

    #[rstest]
    #[case::bytes("1024", Some(1024))]
    #[case::as_spark_writes("1408Mi", Some(1408 << 20))]
    #[case::binary("22272Ki", Some(22272 << 10))]
    #[case::decimal("1G", Some(1_000_000_000))]
    #[case::thousandths_of_a_byte("1500m", Some(2))]
    #[case::unknown_unit("1Xi", None)]
    fn memory(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(units(&Quantity(text.to_owned())), expected);
    }
}
