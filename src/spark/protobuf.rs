//! The wire format of protobuf, read field by field from the beginning of a message.
//!
//! A generated parser would not do: it needs the whole message, and it hides duplicated fields, which are how a
//! request could show one session to the operator and another one to Spark.

/// One top-level field.
#[derive(Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub number: u64,
    pub value: Value<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Strings, bytes and messages.
    Bytes(&'a [u8]),
    /// Numbers.
    Scalar,
    /// The bytes at hand end within this field.
    Cut,
}

/// The bytes are no protobuf message.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// The fields of `message`, which may be only the first part of one. Ends after the first error or cut.
pub fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, Malformed>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let step = next_field(rest);
        rest = match &step {
            Ok((_, after)) => after,
            Err(Malformed) => &[],
        };
        Some(step.map(|(field, _)| field))
    })
}

/// The highest field number that protobuf allows.
const MAX_NUMBER: u64 = (1 << 29) - 1;
/// The greatest length that protobuf allows. Java keeps the lower 32 bits of a length and reads on behind them, where
/// fields may stand that nobody else sees.
const MAX_LENGTH: u64 = (1 << 31) - 1;

fn next_field(bytes: &[u8]) -> Result<(Field<'_>, &[u8]), Malformed> {
    let cut = |number| Ok((Field { number, value: Value::Cut }, [].as_slice()));
    let Some((tag, after)) = varint(bytes)? else { return cut(0) };
    let number = tag >> 3;
    if number == 0 || number > MAX_NUMBER {
        return Err(Malformed);
    }
    let length = match tag & 7 {
        0 => {
            return match varint(after)? {
                Some((_, after)) => Ok((Field { number, value: Value::Scalar }, after)),
                None => cut(number),
            };
        }
        1 => 8,
        2 => {
            let Some((length, content)) = varint(after)? else { return cut(number) };
            if length > MAX_LENGTH {
                return Err(Malformed);
            }
            return match usize::try_from(length).ok().and_then(|length| content.split_at_checked(length)) {
                Some((content, after)) => Ok((Field { number, value: Value::Bytes(content) }, after)),
                None => cut(number),
            };
        }
        5 => 4,
        // Groups (3, 4) are not part of proto3; 6 and 7 never existed.
        _ => return Err(Malformed),
    };
    match after.split_at_checked(length) {
        Some((_, after)) => Ok((Field { number, value: Value::Scalar }, after)),
        None => cut(number),
    }
}

/// `None` if the bytes end within it.
fn varint(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Malformed> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(Some((value, bytes.get(index + 1..).unwrap_or_default())));
        }
    }
    if bytes.len() < 10 { Ok(None) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_longer_than_ten_bytes_is_no_protobuf() {
        assert_eq!(fields(&[0xff; 11]).next(), Some(Err(Malformed)));
    }

    #[test]
    fn a_field_that_is_cut_still_tells_its_number() {
        let seen: Vec<_> = fields(&[0x08, 1, 0x1a, 5, b'x']).collect();
        assert_eq!(
            seen,
            [Ok(Field { number: 1, value: Value::Scalar }), Ok(Field { number: 3, value: Value::Cut })]
        );
    }

    #[test]
    fn a_length_that_no_message_can_have_is_no_protobuf() {
        for length in [[0x80, 0x80, 0x80, 0x80, 0x08].as_slice(), &[0x82, 0x80, 0x80, 0x80, 0x10], &[0xff; 9]]
        {
            let bytes = [&[0x0a], length, &[0x01, b'x', b'x']].concat();
            assert_eq!(fields(&bytes).next(), Some(Err(Malformed)), "{length:x?}");
        }
        let longest = [0x0a, 0xff, 0xff, 0xff, 0xff, 0x07];
        assert_eq!(fields(&longest).next(), Some(Ok(Field { number: 1, value: Value::Cut })));
    }
}
