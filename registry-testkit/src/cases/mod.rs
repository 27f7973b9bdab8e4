//! The cases.

mod deadline;
mod expiry;
mod fence;
mod hygiene;
mod input;
mod lookup;
mod outage;
mod reason;
mod register;
mod scale;
mod watching;

use futures::future::LocalBoxFuture;

use crate::Line;
use crate::profile::{Fencing, Profile};
use crate::report::Outcome;
use crate::stage::{Stage, Verdict};

/// One case: what it is called, which line it shows, what the backend must be able to.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) line: Line,
    needs: &'static [Need],
    /// Whether it would disturb others that run meanwhile.
    pub(crate) is_heavy: bool,
    pub(crate) run: for<'a> fn(&'a Stage<'a>) -> LocalBoxFuture<'a, Verdict>,
}

#[derive(Clone, Copy)]
enum Need {
    Writes,
    Expiry,
    WatchAll,
    Namespaces,
    /// That somebody fences.
    Fencing,
    /// That the writer is fenced.
    StrongFencing,
}

impl Case {
    /// What keeps it from being run.
    pub(crate) fn obstacle(&self, profile: &Profile) -> Option<&'static str> {
        self.needs.iter().find_map(|need| need.obstacle(profile))
    }

    /// It failed in a way that says nothing of another line.
    pub(crate) fn broken(&self, what: String) -> Outcome {
        Outcome::Broken { line: self.line, what }
    }
}

impl Need {
    fn obstacle(self, profile: &Profile) -> Option<&'static str> {
        let (has, without) = match self {
            Self::Writes => (profile.writes, "profile: no writes"),
            Self::Expiry => (profile.writes && profile.expiry, "profile: no expiry"),
            Self::WatchAll => (profile.watch_all, "profile: no watch of all services"),
            Self::Namespaces => (profile.writes && profile.namespaces, "profile: no namespaces"),
            Self::Fencing => {
                (profile.writes && profile.fencing != Fencing::None, "profile: no fencing")
            }
            Self::StrongFencing => (
                profile.writes && profile.fencing == Fencing::Strong,
                "profile: the writer is not fenced",
            ),
        };
        (!has).then_some(without)
    }
}

/// A case named after its function.
macro_rules! case {
    ($module:ident :: $name:ident, $line:expr, [$($need:ident),*]) => {
        case!(@ $module::$name, $line, [$($need),*], false)
    };
    ($module:ident :: $name:ident, $line:expr, [$($need:ident),*], heavy) => {
        case!(@ $module::$name, $line, [$($need),*], true)
    };
    (@ $module:ident :: $name:ident, $line:expr, [$($need:ident),*], $is_heavy:expr) => {
        Case {
            name: stringify!($name),
            line: $line,
            needs: &[$(Need::$need),*],
            is_heavy: $is_heavy,
            run: |stage| Box::pin($module::$name(stage)),
        }
    };
}

/// All of them.
pub(crate) const ALL: &[Case] = &[
    case!(register::round_trip, Line::Register, [Writes]),
    case!(register::versions_are_grouped, Line::Register, [Writes]),
    case!(register::a_renewal_is_silent, Line::Register, [Writes]),
    case!(register::changed_content_is_seen, Line::Register, [Writes]),
    case!(register::a_restart_replaces_at_once, Line::Register, [Writes]),
    case!(register::renewals_keep_a_node, Line::Register, [Expiry]),
    case!(register::a_lease_is_its_own, Line::Register, [Expiry]),
    case!(register::a_renewal_sets_the_ttl, Line::Register, [Expiry]),
    case!(register::an_expired_node_comes_back, Line::Register, [Expiry]),
    case!(register::lost_leases_are_made_anew, Line::Register, [Writes]),
    case!(expiry::a_silent_node_leaves_get, Line::Expiry, [Expiry]),
    case!(expiry::a_silent_node_leaves_watchers, Line::Expiry, [Expiry]),
    case!(expiry::a_vanished_handle_leaves, Line::Expiry, [Expiry]),
    case!(expiry::many_expire_at_once, Line::Expiry, [Expiry], heavy),
    case!(fence::deregister_leaves_the_successor, Line::Deregister, [Writes]),
    case!(fence::deregister_leaves_the_predecessor, Line::Deregister, [Writes]),
    case!(fence::deregister_leaves_the_neighbours, Line::Deregister, [Writes]),
    case!(fence::deregister_twice_is_fine, Line::Deregister, [Writes]),
    case!(fence::a_changed_node_can_be_deregistered, Line::Deregister, [Writes]),
    case!(fence::a_lower_epoch_is_refused, Line::Fence, [StrongFencing]),
    case!(fence::a_lower_epoch_is_not_seen, Line::Fence, [Fencing]),
    case!(fence::an_owner_that_continues_is_refused, Line::Fence, [StrongFencing, Expiry]),
    case!(fence::a_lower_epoch_follows_the_dead, Line::Fence, [Fencing, Expiry]),
    case!(lookup::unknown_is_not_found, Line::Lookup, []),
    case!(lookup::a_miss_is_not_remembered, Line::Lookup, [Writes]),
    case!(lookup::the_last_node_left, Line::Lookup, [Writes]),
    case!(lookup::the_list_is_complete, Line::Lookup, []),
    case!(lookup::an_empty_list_is_no_error, Line::Lookup, [Writes]),
    case!(lookup::unreachable_is_unavailable, Line::Lookup, []),
    case!(lookup::a_corrupt_record_hides_only_itself, Line::Lookup, [Writes]),
    case!(watching::the_first_data_is_a_reset, Line::Watch, []),
    case!(watching::changes_follow_the_reset, Line::Watch, [Writes]),
    case!(watching::all_services_are_followed, Line::Watch, [WatchAll]),
    case!(watching::a_node_is_followed_alone, Line::Watch, [Writes]),
    case!(watching::nothing_is_lost_while_opening, Line::Watch, [Writes]),
    case!(watching::nothing_is_older_than_the_reset, Line::Watch, [Writes]),
    case!(watching::a_later_watch_is_as_new_as_get, Line::Watch, [Writes]),
    case!(watching::two_watchers_agree, Line::Watch, [Writes]),
    case!(outage::a_watch_opens_in_an_outage, Line::Watch, []),
    case!(outage::an_outage_is_stale_then_reset, Line::Outage, []),
    case!(outage::changes_go_on_after_an_outage, Line::Outage, [Writes]),
    case!(reason::a_goodbye_is_told, Line::Reason, [Writes]),
    case!(reason::an_expiry_is_told, Line::Reason, [Expiry]),
    case!(reason::an_empty_reset_says_why, Line::Reason, [Writes]),
    case!(reason::an_unknown_name_was_never_seen, Line::Reason, []),
    case!(watching::a_slow_consumer_gets_state, Line::SlowConsumer, [Writes]),
    case!(hygiene::a_dropped_watch_leaves_no_task, Line::Drop, []),
    case!(hygiene::a_dropped_watch_leaves_the_store, Line::Drop, []),
    case!(hygiene::a_dropped_handle_leaves_no_task, Line::Drop, []),
    case!(hygiene::unknown_names_leave_no_task, Line::Drop, []),
    case!(lookup::a_prefix_is_another_name, Line::Names, []),
    case!(lookup::an_id_is_not_its_prefix, Line::Names, [Writes]),
    case!(lookup::namespaces_are_apart, Line::Names, [Namespaces]),
    case!(deadline::calls_end_when_the_store_hangs, Line::Deadline, []),
    case!(deadline::a_cancelled_call_does_no_harm, Line::Deadline, [Writes]),
    case!(input::invalid_input_is_refused, Line::Errors, []),
    case!(input::the_limits_are_accepted, Line::Errors, [Writes]),
    case!(input::invalid_input_needs_no_store, Line::Errors, []),
    case!(hygiene::debug_shows_something, Line::Errors, []),
    case!(hygiene::no_secret_is_shown, Line::Errors, []),
    case!(scale::many_nodes, Line::Scale, [Writes], heavy),
    case!(scale::many_watches, Line::Scale, [], heavy),
];
