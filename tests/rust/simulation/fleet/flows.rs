//! The workflows of a fleet, and what each comes to if nothing disturbs it.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use treadle::EncodedImage;

use super::changes;
use crate::simulation::host::{Disturbances, Outcome, Simulation};
use crate::simulation::random::mix;
use crate::simulation::workflow::Workflow;

pub const NAMES: [&str; 2] = ["orders", "reports"];
/// The workflow of children.
pub const ERRANDS: &str = "errands";

/// Workflows whose result does not depend on the order in which things happen.
pub struct Flows([(Rc<Workflow>, OnceCell<Outcome>); 3]);

impl Flows {
    pub fn new(seed: u64) -> Self {
        let workflow = |seed| Workflow::new(seed, true).waiting_for_answers();
        let errands = workflow(mix(&[seed, 27])).ending_soon();
        Self([workflow(2 * seed), workflow(2 * seed + 1), errands].map(|it| (Rc::new(it), OnceCell::new())))
    }

    pub fn workflow(&self, name: &str) -> Rc<Workflow> {
        let number = if name == ERRANDS { 2 } else { usize::from(name == NAMES[1]) };
        Rc::clone(&self.0[number].0)
    }

    /// A run has come to what it comes to if nothing disturbs it.
    pub fn check_result(
        &self,
        workflow: &Rc<Workflow>,
        done: &BTreeSet<(u64, u32)>,
        published: &BTreeSet<u64>,
        image: &EncodedImage,
    ) {
        let (_, outcome) = self.0.iter().find(|(one, _)| Rc::ptr_eq(one, workflow)).expect("it is one of them");
        let play = || Simulation::new(Rc::clone(workflow), 0, Disturbances::default()).play().0;
        let expected = outcome.get_or_init(play);
        assert_eq!(*done, expected.finished, "each event was delivered to each of its steps, once");
        assert_eq!(*published, expected.published);
        let own = image.state.iter().filter(|(key, _)| *key != changes::KEY);
        let state = own.map(|(key, value)| (key.to_owned(), value.bytes.to_vec())).collect();
        assert_eq!(expected.state, state);
    }
}
