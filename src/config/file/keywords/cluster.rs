//! The keywords for a node of a cluster. Without the feature `cluster`, they are refused.

use super::row::{Keyword, row};
#[cfg(all(feature = "cluster", feature = "system"))]
use {
    super::row::Shown::{AfterRestart, AtNextConnection, AtOnce},
    super::shown::{Value, path, size, text, word, words},
    crate::settings::{ClientTls, Cluster, ClusterLog, ClusterLogin, RemoteAddress, Settings},
};
#[cfg(feature = "cluster")]
use {
    super::row::{Form::*, Meaning, Named, Scope, Setting, setting},
    crate::config::file::cluster::{self, NAME, NODE, SERVERS},
    crate::config::file::values,
    crate::settings::{ClusterName, NodeName},
};

#[cfg(not(feature = "cluster"))]
pub(super) static ROWS: &[Keyword] = {
    use super::row::Meaning::{PartOf, Refused};
    &[
        row("cluster", Refused, "this binary was built without clusters (feature cluster)"),
        row("cluster_name", PartOf("cluster"), ""),
        row("cluster_node", PartOf("cluster"), ""),
        row("cluster_username", PartOf("cluster"), ""),
        row("cluster_password", PartOf("cluster"), ""),
        row("cluster_credentials", PartOf("cluster"), ""),
        row("cluster_cafile", PartOf("cluster"), ""),
        row("cluster_certfile", PartOf("cluster"), ""),
        row("cluster_keyfile", PartOf("cluster"), ""),
        row("cluster_interest_levels", PartOf("cluster"), ""),
        row("cluster_replicas", PartOf("cluster"), ""),
        row("cluster_keep", PartOf("cluster"), ""),
        row("cluster_keep_bytes", PartOf("cluster"), ""),
        row("cluster_away", PartOf("cluster"), ""),
        row("cluster_patience", PartOf("cluster"), ""),
    ]
};

#[cfg(feature = "cluster")]
pub(super) static ROWS: &[Keyword] = &[
    setting!(
        "cluster",
        Global,
        "none",
        Text(SERVERS, |to, text| {
            let pending = &mut to.globals.cluster;
            (pending.servers, pending.has_tls) = pending.note("cluster", cluster::servers(text))?;
            Ok(())
        }),
        AfterRestart(servers),
        "Brooklet's own: the servers of NATS that connect this broker with the other nodes of its cluster"
    ),
    setting!(
        "cluster_name",
        Global,
        "none",
        Text(NAME, |to, text| {
            let pending = &mut to.globals.cluster;
            pending.name = Some(pending.note("cluster_name", ClusterName::new(text).ok_or(NAME))?);
            Ok(())
        }),
        AfterRestart(|of| clustered(of, |of| word(of.name.as_str()))),
        "Brooklet's own: the name of the cluster, the same in all its nodes"
    ),
    setting!(
        "cluster_node",
        Global,
        "HOSTNAME",
        Text(NODE, |to, text| {
            let pending = &mut to.globals.cluster;
            pending.node = Some(pending.note("cluster_node", NodeName::new(text).ok_or(NODE))?);
            Ok(())
        }),
        AfterRestart(|of| clustered(of, |of| word(of.node.as_str()))),
        "Brooklet's own: the name of this node, different in each of them; by default that of the machine"
    ),
    setting!(
        "cluster_username",
        Global,
        "none",
        Text("a user name", |to, text| {
            to.globals.cluster.user_name = Some(text.into());
            Ok(())
        }),
        AtOnce(|of| clustered(of, user_name)),
        "Brooklet's own: the user of NATS as which this node logs in, with `cluster_password`"
    ),
    setting!(
        "cluster_password",
        Global,
        "none",
        Text("a password", |to, text| {
            to.globals.cluster.password = Some(text.into());
            Ok(())
        }),
        AtOnce(|of| clustered(of, password)),
        "Brooklet's own: the password for `cluster_username`"
    ),
    setting!(
        "cluster_credentials",
        Global,
        "none",
        Path(Named::File, |to, path| to.globals.cluster.credentials = Some(path)),
        AtOnce(|of| clustered(of, |of| path(credentials(of)))),
        "Brooklet's own: the credentials file of NATS with which this node logs in, in place of a user name and a \
         password"
    ),
    setting!(
        "cluster_cafile",
        Global,
        "none",
        Path(Named::File, |to, path| to.globals.cluster.authorities = Some(path)),
        AtNextConnection(|of| encrypted(of, |of| path(of.trust.authorities.as_deref()))),
        "Brooklet's own: the authorities that the certificates of `tls://` servers are from; by default those of the \
         system"
    ),
    setting!(
        "cluster_certfile",
        Global,
        "none",
        Path(Named::File, |to, path| to.globals.cluster.certificate = Some(path)),
        AtNextConnection(|of| encrypted(of, |of| identity(of, 0))),
        "Brooklet's own: the certificate that this node shows to `tls://` servers"
    ),
    setting!(
        "cluster_keyfile",
        Global,
        "none",
        Path(Named::File, |to, path| to.globals.cluster.key = Some(path)),
        AtNextConnection(|of| encrypted(of, |of| identity(of, 1))),
        "Brooklet's own: the private key for `cluster_certfile`"
    ),
    setting!(
        "cluster_interest_levels",
        Global,
        "3",
        Number(1, 8, |to, number| {
            to.globals.cluster.interest_levels = usize::try_from(number).unwrap_or(1);
        }),
        AfterRestart(|of| clustered(of, |of| size(of.interest_levels))),
        "Brooklet's own: how many levels of a Topic Filter decide which messages the other nodes send to this one; with \
         more, fewer are sent for nothing, and NATS has more subscriptions"
    ),
    setting!(
        "cluster_replicas",
        Global,
        "3",
        Number(1, 5, |to, number| to.globals.cluster.log.replicas = number.unsigned_abs()),
        AfterRestart(|of| logged(of, |log| Value::Number(log.replicas))),
        "Brooklet's own: on how many servers of NATS the log of the cluster is; a message is acknowledged when most of \
         them have it"
    ),
    setting!(
        "cluster_keep",
        Global,
        "7d",
        Word("a duration", |to, text| {
            to.globals.cluster.log.keep = values::expiration(text)?;
            Ok(())
        }),
        AfterRestart(|of| logged(of, |log| duration(log.keep))),
        "Brooklet's own: how long the log of the cluster keeps a message for clients that do not take it"
    ),
    setting!(
        "cluster_keep_bytes",
        Global,
        "none",
        Word(values::BYTES, |to, text| {
            to.globals.cluster.log.keep_bytes = values::bytes(text).ok_or(values::BYTES)?;
            Ok(())
        }),
        AfterRestart(|of| logged(of, |log| match log.keep_bytes {
            0 => Value::Nothing,
            bytes => size(bytes),
        })),
        "Brooklet's own: how many bytes the log of the cluster has at most; the oldest messages go first"
    ),
    setting!(
        "cluster_away",
        Global,
        "hold",
        Word(cluster::AWAY, |to, text| {
            to.globals.cluster.log.refuses = cluster::refuses(text)?;
            Ok(())
        }),
        AfterRestart(|of| logged(of, |log| word(if log.refuses { "refuse" } else { "hold" }))),
        "Brooklet's own: what becomes of clients while the servers of NATS cannot be used: `hold` lets them wait for \
         `cluster_patience`, `refuse` refuses them at once"
    ),
    setting!(
        "cluster_patience",
        Global,
        "30",
        Number(1, 3_600, |to, number| {
            to.globals.cluster.log.patience = u32::try_from(number).unwrap_or(1);
        }),
        AfterRestart(|of| logged(of, |log| Value::Number(log.patience.into()))),
        "Brooklet's own: for how many seconds clients wait for the servers of NATS with `cluster_away hold`"
    ),
];

#[cfg(all(feature = "cluster", feature = "system"))]
fn servers(of: &Settings) -> Value<'_> {
    let Some(cluster) = &of.cluster else { return Value::Nothing };
    let scheme = if cluster.tls.is_some() { "tls" } else { "nats" };
    let server = |RemoteAddress { host, port }: &RemoteAddress| match host.contains(':') {
        true => format!("{scheme}://[{host}]:{port}"),
        false => format!("{scheme}://{host}:{port}"),
    };
    words(cluster.servers.iter().map(server))
}

/// A value of the cluster, which does not apply to a broker alone.
#[cfg(all(feature = "cluster", feature = "system"))]
fn clustered(of: &Settings, show: fn(&Cluster) -> Value<'_>) -> Value<'_> {
    of.cluster.as_ref().map_or(Value::NotApplicable, show)
}

/// A value of the log.
#[cfg(all(feature = "cluster", feature = "system"))]
fn logged(of: &Settings, show: fn(&ClusterLog) -> Value<'_>) -> Value<'_> {
    of.cluster.as_ref().map_or(Value::NotApplicable, |of| show(&of.log))
}

/// A number of seconds, in days if they are whole ones.
#[cfg(all(feature = "cluster", feature = "system"))]
fn duration<'a>(seconds: u32) -> Value<'a> {
    match seconds % 86_400 {
        0 => Value::Words(format!("{}d", seconds / 86_400)),
        _ => Value::Words(format!("{seconds}s")),
    }
}

/// A value of TLS, which does not apply without it.
#[cfg(all(feature = "cluster", feature = "system"))]
fn encrypted(of: &Settings, show: fn(&ClientTls) -> Value<'_>) -> Value<'_> {
    of.cluster.as_ref().and_then(|cluster| cluster.tls.as_ref()).map_or(Value::NotApplicable, show)
}

#[cfg(all(feature = "cluster", feature = "system"))]
fn user_name(of: &Cluster) -> Value<'_> {
    match &of.login {
        Some(ClusterLogin::Password { user_name, .. }) => {
            text(Some(&**user_name).filter(|name| !name.is_empty()))
        }
        _ => Value::Nothing,
    }
}

#[cfg(all(feature = "cluster", feature = "system"))]
fn password(of: &Cluster) -> Value<'_> {
    match &of.login {
        Some(ClusterLogin::Password { password, .. }) if !password.is_empty() => Value::Secret(password),
        _ => Value::Nothing,
    }
}

#[cfg(all(feature = "cluster", feature = "system"))]
fn credentials(of: &Cluster) -> Option<&std::path::Path> {
    match &of.login {
        Some(ClusterLogin::Credentials(path)) => Some(path),
        _ => None,
    }
}

#[cfg(all(feature = "cluster", feature = "system"))]
fn identity(of: &ClientTls, index: usize) -> Value<'_> {
    path(of.identity.as_ref().and_then(|identity| identity.get(index)).map(|file| &**file))
}
