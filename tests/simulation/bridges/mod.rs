//! A bridge between two cores in one thread: each with its store, clients that publish and subscribe, and a link between
//! them that delays, blocks, drains slowly and is cut. Either core or both may crash, the far session of the bridge may
//! be lost, and the far core may accept less than before. What a publisher was acknowledged for has to arrive.

mod client;
mod joint;
mod ledger;
mod node;
mod plan;
mod run;
mod world;

pub use run::run;
