//! Calls that wait for their turn: a plain structure.

use std::collections::BTreeMap;

use crate::Criticality;

/// What waits, the more important first, and what is as important in order of arrival.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: BTreeMap<Ticket, T>,
    lengths: [usize; Criticality::ALL.len()],
    next: u64,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    class: Criticality,
    number: u64,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new(), lengths: Default::default(), next: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn len_of(&self, class: Criticality) -> usize {
        self.lengths[class as usize]
    }

    /// Returns how important the first is.
    pub(super) fn first(&self) -> Option<Criticality> {
        self.waiting.first_key_value().map(|(ticket, _)| ticket.class)
    }

    pub(super) fn enter(&mut self, class: Criticality, who: T) -> Ticket {
        let ticket = Ticket { class, number: self.next };
        self.next += 1;
        self.lengths[class as usize] += 1;
        self.waiting.insert(ticket, who);
        ticket
    }

    /// Takes out the first.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (ticket, who) = self.waiting.pop_first()?;
        self.lengths[ticket.class as usize] -= 1;
        Some(who)
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut T> {
        self.waiting.values_mut()
    }

    /// Takes one out who waits no longer, if it is there still.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let who = self.waiting.remove(&ticket)?;
        self.lengths[ticket.class as usize] -= 1;
        Some(who)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Who matters more comes first, whenever it came, and otherwise who came first.
    #[test]
    fn the_important_come_first() {
        let [most, high, low, least] = Criticality::ALL;
        let mut queue = Queue::new();
        for (class, name) in [(low, 'd'), (high, 'b'), (least, 'f'), (low, 'e'), (most, 'a')] {
            queue.enter(class, name);
        }
        queue.enter(high, 'c');
        assert_eq!(queue.first(), Some(most));
        assert_eq!(String::from_iter(std::iter::from_fn(|| queue.pop())), "abcdef");
        assert_eq!(queue.first(), None);
    }

    proptest! {
        /// Whoever comes and leaves, the lengths are those of who is there, and who has left or was
        /// called is found no more.
        #[test]
        fn lengths_are_right(steps in prop::collection::vec((0..4_usize, 0..3_u8, any::<prop::sample::Index>()), 0..200)) {
            let (mut queue, mut tickets) = (Queue::new(), Vec::new());
            for (class, step, which) in steps {
                match step {
                    0 => tickets.push(queue.enter(Criticality::ALL[class], ())),
                    1 => {
                        let first = tickets.iter().min().copied();
                        prop_assert_eq!(queue.pop().is_some(), first.is_some());
                        tickets.retain(|ticket| Some(*ticket) != first);
                    }
                    _ if tickets.is_empty() => {}
                    _ => {
                        let ticket = tickets.swap_remove(which.index(tickets.len()));
                        prop_assert!(queue.leave(ticket).is_some() && queue.leave(ticket).is_none());
                    }
                }
                prop_assert_eq!(queue.len(), tickets.len());
                for class in Criticality::ALL {
                    let there = tickets.iter().filter(|ticket| ticket.class == class).count();
                    prop_assert_eq!(queue.len_of(class), there);
                }
            }
        }
    }
}
