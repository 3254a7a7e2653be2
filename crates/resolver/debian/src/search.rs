//! The search for a set of packages: apt's first choice everywhere, and a way back where it does not work.

use std::collections::HashMap;

use crate::Error;
use crate::relation::Relation;
use crate::universe::{Id, Universe};

/// The packages that satisfy everything that `wanted` needs, in the order in which they were chosen.
pub(crate) fn search(universe: &Universe<'_>, wanted: &[Id], recommends: bool) -> Result<Vec<Id>, Error> {
    let mut search = Search {
        universe,
        recommends,
        chosen: Vec::new(),
        by_name: HashMap::new(),
        arena: Vec::new(),
        stack: None,
        choices: Vec::new(),
    };
    search.run(wanted)?;
    Ok(search.chosen.into_iter().map(|chosen| chosen.id).collect())
}

struct Search<'u, 'a> {
    universe: &'u Universe<'a>,
    recommends: bool,
    chosen: Vec<Chosen>,
    by_name: HashMap<&'a str, Id>,
    arena: Vec<Waiting<'u, 'a>>,
    /// The group that is looked at next.
    stack: Option<usize>,
    choices: Vec<Choice>,
}

/// A package that was chosen, and for whom.
struct Chosen {
    id: Id,
    /// The package whose dependency it satisfies; nothing for what the request names.
    parent: Option<Id>,
}

/// A group of alternatives that waits to be satisfied. Waiting groups form a stack that is a list through an arena, so
/// that to go back to an earlier state is to remember two numbers, and a long chain of dependencies needs no recursion.
struct Waiting<'u, 'a> {
    parent: Id,
    group: &'u [Relation<'a>],
    /// `Recommends`: if nothing works, nothing is chosen.
    optional: bool,
    below: Option<usize>,
}

/// A group with possibilities left, and the state before one of them was chosen.
struct Choice {
    waiting: usize,
    optional: bool,
    candidates: Vec<Id>,
    next: usize,
    chosen: usize,
    arena: usize,
    below: Option<usize>,
}

/// Why a package cannot be added to those that are chosen.
enum Obstacle {
    /// Another version of it is chosen.
    Version(Id),
    /// `left` declares a conflict with `right`; one of them is chosen.
    Conflict { left: Id, right: Id, relation: String },
}

/// How often the search goes back before it gives up. Real requests do so a few times, if at all.
const MAX_RETURNS: usize = 2_000;

impl<'u, 'a> Search<'u, 'a> {
    fn run(&mut self, wanted: &[Id]) -> Result<(), Error> {
        // What the request names is chosen before any dependency is looked at, so that it can satisfy them.
        for id in wanted {
            if let Some(Obstacle::Conflict { left, right, relation }) = self.obstacle(*id)? {
                return Err(self.conflict(left, right, relation, &[*id]));
            }
            self.choose(*id, None);
        }
        for id in wanted.iter().rev() {
            self.wait_for_dependencies(*id)?;
        }
        let mut first_error = None;
        for _ in 0..=MAX_RETURNS {
            let Some(stuck) = self.follow_dependencies()? else { return Ok(()) };
            // The first dead end is the one that apt would have ended in, and the one worth telling.
            if first_error.is_none() {
                first_error = Some(self.explain(stuck)?);
            }
            if !self.go_back()? {
                break;
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Satisfies waiting groups until none is left, or returns the one for which nothing works.
    fn follow_dependencies(&mut self) -> Result<Option<usize>, Error> {
        while let Some(at) = self.stack {
            let Some(waiting) = self.arena.get(at) else { break };
            let (group, optional, below) = (waiting.group, waiting.optional, waiting.below);
            self.stack = below;
            if self.is_satisfied(group)? {
                continue;
            }
            let choice = Choice {
                waiting: at,
                optional,
                candidates: self.universe.candidates(group)?,
                next: 0,
                chosen: self.chosen.len(),
                arena: self.arena.len(),
                below,
            };
            if !self.take_next(choice)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Takes the next possibility of a choice that no chosen package forbids; false if there is none.
    fn take_next(&mut self, mut choice: Choice) -> Result<bool, Error> {
        while let Some(id) = choice.candidates.get(choice.next).copied() {
            choice.next += 1;
            if self.obstacle(id)?.is_some() {
                continue;
            }
            let parent = self.arena.get(choice.waiting).map(|waiting| waiting.parent);
            if choice.next < choice.candidates.len() || choice.optional {
                self.choices.push(choice);
            }
            self.choose(id, parent);
            self.wait_for_dependencies(id)?;
            return Ok(true);
        }
        Ok(choice.optional)
    }

    /// Undoes everything since the last choice that has possibilities left, and takes its next.
    fn go_back(&mut self) -> Result<bool, Error> {
        while let Some(choice) = self.choices.pop() {
            for undone in self.chosen.drain(choice.chosen..) {
                if let Some(package) = self.universe.package(undone.id) {
                    self.by_name.remove(package.name);
                }
            }
            self.arena.truncate(choice.arena);
            self.stack = choice.below;
            if self.take_next(choice)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn choose(&mut self, id: Id, parent: Option<Id>) {
        if let Some(package) = self.universe.package(id) {
            self.by_name.insert(package.name, id);
            self.chosen.push(Chosen { id, parent });
        }
    }

    /// Puts a package's dependencies on the stack, the first on top.
    fn wait_for_dependencies(&mut self, id: Id) -> Result<(), Error> {
        let relations = self.universe.relations(id)?;
        let recommends = relations.recommends.iter().filter(|_| self.recommends).map(|group| (group, true));
        let groups: Vec<_> = relations.depends.iter().map(|group| (group, false)).chain(recommends).collect();
        for (group, optional) in groups.into_iter().rev() {
            let below = self.stack.replace(self.arena.len());
            self.arena.push(Waiting { parent: id, group, optional, below });
        }
        Ok(())
    }

    fn is_satisfied(&self, group: &[Relation<'a>]) -> Result<bool, Error> {
        for relation in group {
            let named = self.by_name.get(relation.name).into_iter();
            let providers = self.universe.providers(relation.name).iter().filter(|id| self.is_chosen(**id));
            for id in named.chain(providers) {
                if self.universe.matches(relation, *id)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn is_chosen(&self, id: Id) -> bool {
        self.universe.package(id).is_some_and(|package| self.by_name.get(package.name) == Some(&id))
    }

    fn obstacle(&self, id: Id) -> Result<Option<Obstacle>, Error> {
        let Some(package) = self.universe.package(id) else { return Ok(None) };
        if let Some(other) = self.by_name.get(package.name).filter(|other| **other != id) {
            return Ok(Some(Obstacle::Version(*other)));
        }
        for chosen in &self.chosen {
            for (left, right) in [(id, chosen.id), (chosen.id, id)] {
                if let Some(relation) = self.declared_conflict(left, right)? {
                    return Ok(Some(Obstacle::Conflict { left, right, relation }));
                }
            }
        }
        Ok(None)
    }

    /// What `left` says against `right`. A package never conflicts with itself, though it may provide what it
    /// conflicts with: so it says that it must be the only one that does.
    fn declared_conflict(&self, left: Id, right: Id) -> Result<Option<String>, Error> {
        if left == right {
            return Ok(None);
        }
        let relations = self.universe.relations(left)?;
        for (verb, list) in [("conflicts with", &relations.conflicts), ("breaks", &relations.breaks)] {
            for relation in list {
                if self.universe.matches(relation, right)? {
                    return Ok(Some(format!("{verb} {relation}")));
                }
            }
        }
        Ok(None)
    }

    /// Says why nothing works for a waiting group.
    fn explain(&self, at: usize) -> Result<Error, Error> {
        let Some(waiting) = self.arena.get(at) else {
            return Ok(Error::control("Packages", 0, "the search lost its place".to_owned()));
        };
        let candidates = self.universe.candidates(waiting.group)?;
        if let [only] = candidates.as_slice()
            && let Some(Obstacle::Conflict { left, right, relation }) = self.obstacle(*only)?
        {
            return Ok(self.conflict(left, right, relation, &[*only, waiting.parent]));
        }
        let mut reasons = Vec::new();
        for id in &candidates {
            let label = self.universe.label(*id);
            reasons.push(match self.obstacle(*id)? {
                Some(Obstacle::Version(other)) => {
                    format!("{label} is not possible beside {}", self.trail(&[other]))
                }
                Some(Obstacle::Conflict { left, right, relation }) => {
                    let other = if left == *id { right } else { left };
                    format!("{} {relation}; {}", self.universe.label(left), self.trail(&[other]))
                }
                None => format!("{label} has dependencies that cannot be satisfied"),
            });
        }
        for relation in waiting.group {
            let mut others = Vec::new();
            for id in self.universe.versions(relation.name) {
                if !self.universe.matches(relation, *id)? {
                    others.push(self.universe.label(*id));
                }
            }
            if !others.is_empty() {
                reasons.push(format!("{relation}: there is only {}", others.join(", ")));
            } else if self.universe.versions(relation.name).is_empty()
                && self.universe.providers(relation.name).is_empty()
            {
                reasons.push(format!("{relation}: no index has it, or it is excluded"));
            }
        }
        let group = waiting.group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
        Ok(Error::Unsatisfiable { dependency: group, chain: self.chain(&[waiting.parent]), reasons })
    }

    /// `new` is the package that is not chosen, and the one that it would be chosen for.
    fn conflict(&self, left: Id, right: Id, relation: String, new: &[Id]) -> Error {
        let chain = |id: Id| if new.first() == Some(&id) { self.chain(new) } else { self.chain(&[id]) };
        Error::Conflict {
            left: self.universe.label(left),
            right: self.universe.label(right),
            relation,
            left_chain: chain(left).into(),
            right_chain: chain(right).into(),
        }
    }

    /// From the first of `start` over the packages that need it to the request; the last of `start` is chosen, those before
    /// it would be for the sake of the next.
    fn chain(&self, start: &[Id]) -> Vec<String> {
        let parent =
            |id: Id| self.chosen.iter().find(|chosen| chosen.id == id).and_then(|chosen| chosen.parent);
        let mut ids = start.to_vec();
        while let Some(next) = ids.last().and_then(|last| parent(*last)).filter(|next| !ids.contains(next)) {
            ids.push(next);
        }
        let last = ids.len().saturating_sub(1);
        let line = |(at, id): (usize, &Id)| match (at, at == last) {
            (0, true) => format!("{} is requested", self.universe.label(*id)),
            (0, false) => self.universe.label(*id),
            (_, true) => format!("needed by {}, which is requested", self.universe.label(*id)),
            (_, false) => format!("needed by {}", self.universe.label(*id)),
        };
        ids.iter().enumerate().map(line).collect()
    }

    fn trail(&self, start: &[Id]) -> String {
        self.chain(start).join(", ")
    }
}
