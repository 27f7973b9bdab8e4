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
    /// A renewal for longer than before is one for as long as before.
    NeverLengthensALease,
    /// A restarted process must wait for its predecessor's lease to end.
    FirstComeFirstServed,
    /// What was registered once is believed to be there for ever.
    TrustsItsLeases,
    LosesTheZone,
    /// Watchers do not hear of expiries.
    HidesExpiry,
    /// Answers others from what it was ever told.
    ServesTheDead,
    /// Somebody goes on renewing for a process that is gone.
    OutlivesItsProcess,
    DeregistersAnyEpoch,
    /// A node that changed since is not the one that says goodbye.
    DeregistersOnlyWhatItSees,
    /// In every service.
    DeregistersEverywhere,
    ComplainsOfTheGone,
    AcceptsLowerEpochs,
    /// A lower epoch is refused although the higher one is dead.
    FencesForever,
    EmptyForUnknown,
    NotFoundWhenAway,
    EmptyListWhenAway,
    NotFoundForAnEmptyList,
    ListsOneVersion,
    /// What never was, when it was looked for, is not looked for again.
    RemembersMisses,
    ChokesOnCorruption,
    /// Reads all, and watches from a moment later on.
    LosesWhileOpening,
    /// Watches from a moment before it read all.
    ReplaysHistory,
    /// The second half of a reset comes as changes.
    TellsInPieces,
    /// Who watches later begins with what the first was told.
    KeepsTheFirstReset,
    /// Who watches beside another begins with what was before.
    LagsForLatecomers,
    LosesTheLastGoodbye,
    /// A watch of everything is one of all services there were at first.
    FollowsTheKnownOnly,
    /// Who watches a node is told of its service.
    FollowsTheNeighbours,
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
    DeregistersByPrefix,
    MixesNamespaces,
    IgnoresItsDeadline,
    /// A call that is cancelled keeps the lock.
    LosesItsLock,
    ShowsNothing,
    ShowsItsSecret,
    ShowsItsSecretInErrors,
    MistypesInvalid,
    TrimsWhatIsInvalid,
    /// Validates after it has asked the store.
    AsksFirst,
    /// The first page of a list.
    ReadsOnePage,
    /// Watches beyond a number hear of nothing new.
    StarvesTheMany,
}
