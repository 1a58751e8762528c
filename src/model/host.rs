/// Whether this is a DNS name of lower-case labels, without a wildcard or a port: what the schema of a pool
/// asks of `spec.host`. It is asked again here, because objects may be older than their schema, and one name
/// that Envoy does not take as a domain makes it refuse the routes of all pools.
pub fn is_host_name(host: &str) -> bool {
    (1..=253).contains(&host.len()) && host.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("spark.example.com")]
    #[case("localhost")]
    #[case("10.0.0.1")]
    #[case("a-b.c--d.3e")]
    #[case(&"x".repeat(63))]
    fn a_dns_name_is_a_host(#[case] host: &str) {
        assert!(is_host_name(host));
    }

    #[rstest]
    #[case::nothing("")]
    #[case::everything("*")]
    #[case::wildcard("*.example.com")]
    #[case::wildcard_at_the_end("spark.*")]
    #[case::upper_case("Spark.example.com")]
    #[case::port("spark.example.com:443")]
    #[case::space("spark example.com")]
    #[case::trailing_dot("spark.example.com.")]
    #[case::empty_label("spark..com")]
    #[case::hyphen_at_an_edge("-spark.example.com")]
    #[case::underscore("my_pool.example.com")]
    #[case::newline("spark.example.com\n")]
    #[case::umlaut("spärk.example.com")]
    #[case::ipv6("[::1]")]
    #[case::long_label(&"x".repeat(64))]
    #[case::long(&["x"; 128].join("."))]
    fn anything_else_is_not(#[case] host: &str) {
        assert!(!is_host_name(host));
    }
}
