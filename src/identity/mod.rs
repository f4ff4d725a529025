//! Who a trusted certificate belongs to, and what it may do.

mod acl;
mod consumer;
mod rule;

pub use acl::Acl;
pub use consumer::{
    subject_names, Consumer, ConsumerBy, ConsumerMatch, Consumers, ConsumersBuilder, Credential,
    SubjectName, SubjectNames,
};
pub use rule::{Condition, Rule, Rules, SanCondition};
