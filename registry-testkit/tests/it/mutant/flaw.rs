//! What can be wrong with a backend.

/// What a mutant does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing: the one that must be judged well.
    None,
    /// One lease for all of a process.
    RenewsNeighbours,
    /// A change of labels or endpoints counts as a renewal.
    OverlooksMetadata,
    /// A renewal is a goodbye and a new registration.
    ReplacesOnRenewal,
    /// What was registered once is believed to be there for ever.
    TrustsItsLeases,
    LosesTheZone,
    /// Watchers do not hear of expiries.
    HidesExpiry,
    /// Somebody goes on renewing for a process that is gone.
    OutlivesItsProcess,
    DeregistersAnyEpoch,
    ComplainsOfTheGone,
    AcceptsLowerEpochs,
    /// A lower epoch is refused although the higher one is dead.
    FencesForever,
    EmptyForUnknown,
    NotFoundWhenAway,
    EmptyListWhenAway,
    /// Reads all, and watches from a moment later on.
    LosesWhileOpening,
    /// Watches from a moment before it read all.
    ReplaysHistory,
    FailsToWatchWhenAway,
    EndsOnOutage,
    NeverComesBack,
    HidesOutages,
    CallsExpiryGoodbye,
    GivesNoReason,
    CallsAllEmptyNeverSeen,
    /// A queue of each node's changes that overflows.
    Overflows,
    LeaksTheWatch,
    LeaksTheHandle,
    MatchesPrefixes,
    MixesNamespaces,
    IgnoresItsDeadline,
    /// A call that is cancelled keeps the lock.
    LosesItsLock,
    ShowsItsSecret,
    ShowsItsSecretInErrors,
    MistypesInvalid,
    TrimsWhatIsInvalid,
    /// Validates after it has asked the store.
    AsksFirst,
    /// The first page of a list.
    ReadsOnePage,
}
