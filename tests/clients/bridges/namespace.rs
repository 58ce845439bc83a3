//! A network between two brokers that the kernel makes: the far broker has one of its own, and what it sends is dropped
//! there for a while. Only root may make networks.

use super::faults::{is_served, wait_for_line};
use super::*;

/// A network with two ends.
struct Namespace {
    name: String,
    /// The address of the end here, and that of the far broker.
    addresses: [Ipv4Addr; 2],
}

impl Namespace {
    /// Makes one whose name and addresses no other test has.
    fn new() -> Self {
        let process = std::process::id();
        let name = format!("bk{process}");
        let [.., high, low] = process.to_be_bytes();
        let addresses = [1, 2].map(|host| Ipv4Addr::new(10, 213, high, low & 0xFC | host));
        let namespace = Self { name, addresses };
        let Self { name, addresses: [here, there] } = &namespace;
        ip(&format!("netns add {name}"));
        ip(&format!("link add {name}h type veth peer name {name}t netns {name}"));
        ip(&format!("address add {here}/30 dev {name}h"));
        ip(&format!("link set {name}h up"));
        ip(&format!("-n {name} address add {there}/30 dev {name}t"));
        ip(&format!("-n {name} link set {name}t up"));
        namespace
    }

    /// A broker in it.
    fn start(&self, file: &Path) -> Server {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, env!("CARGO_BIN_EXE_brooklet"), "-c"]).arg(file);
        Server::follow(command)
    }

    /// Nothing that is sent there arrives any longer, and its senders are not told.
    fn drop_packets(&self) {
        ip(&format!("-n {} route add blackhole {}/32", self.name, self.addresses[0]));
    }

    fn pass_packets(&self) {
        ip(&format!("-n {} route delete blackhole {}/32", self.name, self.addresses[0]));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("there is a program `ip`").success(), "ip {arguments}");
}

/// Publishes messages with topics that end with these numbers.
async fn publish(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        client.publish(&format!("up/{number}"), QoS::AtLeastOnce, false, "").await;
    }
}

#[test]
#[ignore = "only root may make networks"]
fn a_network_that_drops_packets_delays_no_client_and_costs_no_message() {
    let namespace = Namespace::new();
    let there = namespace.addresses[1];
    let sites = Sites::new("namespace", Kind::Brooklet);
    let far = format!("user root\nlistener {} {there}\nallow_anonymous true\nlog_type all\n", sites.far_port);
    let far = namespace.start(&sites.directory.write("far.conf", &far));
    sites.configure("topic up/# out 1\nkeepalive_interval 5");
    let address = format!("{there}:{}", sites.far_port);
    sites.replace(&format!("address 127.0.0.1:{}", sites.far_port), &format!("address {address}"));
    let near = sites.near();
    run(async {
        let mut client = sites.client(Version::V5, false, "near").await;
        client.subscribe("own/#", QoS::AtLeastOnce).await;
        wait_for_line(&near, &mut client, &format!("Connected to {address}")).await;
        namespace.drop_packets();
        publish(&mut client, 0..20).await;
        wait_for_line(&near, &mut client, &format!("The connection to {address} has ended")).await;
        wait_for_line(&near, &mut client, &format!("The attempt to connect to {address} has ended")).await;
        publish(&mut client, 20..40).await;
        namespace.pass_packets();
        far.wait_for_line("'up/39'");
        for number in 0..40 {
            assert!(!far.lines_with(&format!("'up/{number}'")).is_empty(), "message {number} has not come");
        }
        is_served(&mut client).await;
    });
    end(near);
    end(far);
}
