use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the servers of a pool speak, and so what its clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Spark Connect: gRPC, for PySpark and the other DataFrame clients.
    Connect,
    /// The Spark Thrift Server (HiveServer2) over HTTP, for JDBC tools.
    Thrift,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Thrift => "thrift",
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
