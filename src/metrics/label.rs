//! Label values that are closed sets: their texts are a contract with dashboards.

/// How a payment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentOutcome {
    /// Charged and answered.
    Settled,
    /// Signed and sent, no proof either way.
    Open,
    /// Charged, answer lost.
    Lost,
}

impl PaymentOutcome {
    /// Stable label text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Open => "open",
            Self::Lost => "lost",
        }
    }
}

/// A step between a challenge and a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The policy decides.
    Policy,
    /// The ledger holds the amount durably.
    Reserve,
    /// The signer answers.
    Sign,
}

impl Stage {
    /// Stable label text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Reserve => "reserve",
            Self::Sign => "sign",
        }
    }
}

/// What became of an attempt to tell people of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeResult {
    /// The receiver took it.
    Delivered,
    /// It did not, and is asked again.
    Retried,
    /// It did not, and is not asked again, or the question ended first.
    Failed,
}

impl NoticeResult {
    /// Every result.
    pub const ALL: [Self; 3] = [Self::Delivered, Self::Retried, Self::Failed];

    /// Stable label text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::Failed => "failed",
        }
    }
}
