//! Which client library calls: routes, codes and settings differ by it.

/// The client's library, as `x-mq-language` says; anything is accepted (grpc.md E.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Language {
    Java,
    Cpp,
    DotNet,
    Golang,
    Rust,
    Python,
    Php,
    /// Node's client says HTTP.
    Node,
    Unknown,
}

impl Language {
    /// Reads the header's word.
    pub fn of(word: &str) -> Self {
        match word {
            "JAVA" => Self::Java,
            "CPP" => Self::Cpp,
            "DOTNET" | "DOT_NET" => Self::DotNet,
            "GO" | "GOLANG" => Self::Golang,
            "RUST" => Self::Rust,
            "PYTHON" => Self::Python,
            "PHP" => Self::Php,
            "HTTP" | "NODE_JS" => Self::Node,
            _ => Self::Unknown,
        }
    }

    /// The header's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Java => "JAVA",
            Self::Cpp => "CPP",
            Self::DotNet => "DOTNET",
            Self::Golang => "GO",
            Self::Rust => "RUST",
            Self::Python => "PYTHON",
            Self::Php => "PHP",
            Self::Node => "HTTP",
            Self::Unknown => "",
        }
    }
}
