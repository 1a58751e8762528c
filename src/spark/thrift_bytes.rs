//! Thrift's binary protocol, value by value: what the readers of whole messages share.

use super::thrift_type::{BOOL, DOUBLE, I8, I16, I32, I64, LIST, MAP, SET, STOP, STRING, STRUCT, UUID};

/// Why the bytes are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end within it.
    Cut,
    NegativeLength,
    UnknownType,
    TooDeep,
}

use Malformed::{Cut, NegativeLength, TooDeep, UnknownType};

/// Nothing in TCLIService is nested so deeply; it bounds the stack that a hostile message takes.
pub const MAX_DEPTH: u8 = 16;

/// What is left of the message. Every read takes at least one byte of it, so that all loops end.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Cut)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(i32::from_be_bytes(self.array()?)).map_err(|_| NegativeLength)
    }

    pub fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?;
        self.take(length)
    }

    /// Type and number of the next field; `None` at the end of the struct.
    pub fn field(&mut self) -> Result<Option<(u8, i16)>, Malformed> {
        match self.byte()? {
            STOP => Ok(None),
            kind => Ok(Some((kind, i16::from_be_bytes(self.array()?)))),
        }
    }

    /// Goes to the value of this field of the struct that begins here, over those before it. `None`: it has none.
    pub fn enter(&mut self, kind: u8, number: i16) -> Result<Option<()>, Malformed> {
        while let Some(field) = self.field()? {
            if field == (kind, number) {
                return Ok(Some(()));
            }
            self.skip(field.0, MAX_DEPTH)?;
        }
        Ok(None)
    }

    pub fn skip(&mut self, kind: u8, depth: u8) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or(TooDeep)?;
        match kind {
            BOOL | I8 => self.take(1).map(drop),
            DOUBLE | I64 => self.take(8).map(drop),
            I16 => self.take(2).map(drop),
            I32 => self.take(4).map(drop),
            UUID => self.take(16).map(drop),
            STRING => self.text().map(drop),
            STRUCT => {
                while let Some((kind, _)) = self.field()? {
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
            MAP => {
                let [key, value] = self.array()?;
                for _ in 0..self.length()? {
                    self.skip(key, depth)?;
                    self.skip(value, depth)?;
                }
                Ok(())
            }
            SET | LIST => {
                let kind = self.byte()?;
                for _ in 0..self.length()? {
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
            _ => Err(UnknownType),
        }
    }
}
