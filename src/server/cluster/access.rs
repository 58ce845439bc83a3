//! How a node gets to the servers: what it logs in with, and its setup of TLS. Both are read from the files in the settings.

use crate::base::files;
use crate::protocol::nats::{Authentication, CREDENTIALS_MAXIMUM, Secret};
use crate::server::tls::{ClientSetup, check_client_of_node, load_client_of_node};
use crate::settings::{ClientTls, Cluster, ClusterLogin, ConfigError, Trust};
#[cfg(feature = "system")]
use {crate::base::time::Time, crate::server::Server, crate::settings::Settings};

/// Everything that is wrong with the files of a node. The authorities of the system are not looked for.
pub fn check_node(cluster: &Cluster) -> Vec<ConfigError> {
    let tls = cluster.tls.iter().flat_map(check_client_of_node);
    authentication_of(cluster).err().into_iter().chain(tls).collect()
}

/// What the files of a node have.
pub(in crate::server) struct Access {
    /// How the node proves who it is.
    pub(super) authentication: Authentication,
    pub(super) tls: Tls,
}

/// The setup of TLS. Without `tls://`, there is none until a server requires it, so that other nodes do not need the
/// memory for the authorities of the system.
pub(super) struct Tls(Option<ClientSetup>);

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub(super) fn load(cluster: &Cluster) -> Result<Self, Vec<ConfigError>> {
        let tls = cluster.tls.as_ref().map(load_client_of_node).transpose();
        match (authentication_of(cluster), tls) {
            (Ok(authentication), Ok(tls)) => Ok(Self { authentication, tls: Tls(tls) }),
            (authentication, tls) => {
                Err(authentication.err().into_iter().chain(tls.err().into_iter().flatten()).collect())
            }
        }
    }
}

impl Tls {
    /// The setup of TLS for the next connection.
    pub(super) fn setup(&mut self) -> Result<ClientSetup, String> {
        if let Some(setup) = &self.0 {
            return Ok(setup.clone());
        }
        let trust = Trust { place: "cluster".to_owned(), ..Trust::default() };
        let settings = ClientTls { trust, trusts_system: true, ..ClientTls::default() };
        let loaded = load_client_of_node(&settings);
        let in_words =
            |errors: Vec<ConfigError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let setup = loaded.map_err(in_words)?;
        self.0 = Some(setup.clone());
        Ok(setup)
    }
}

#[cfg(feature = "system")]
impl Server {
    /// Reads the files of the node in these settings. Changes nothing. `None` if the broker is no node, or would no longer
    /// be one, which takes a restart.
    pub(in crate::server) fn load_access(
        &self,
        settings: &Settings,
    ) -> Result<Option<Access>, Vec<ConfigError>> {
        let cluster = settings.cluster.as_ref().filter(|_| self.cluster.0.is_some());
        cluster.map(Access::load).transpose()
    }

    /// Uses what was read for the next connection, which is made at once if the login has changed.
    pub(in crate::server) fn change_access(
        &mut self,
        access: Option<Access>,
        settings: &Settings,
        now: Time,
    ) {
        let Some(joined) = &mut self.cluster.0 else { return };
        let (Some(Access { authentication, tls }), Some(new)) = (access, &settings.cluster) else { return };
        if joined.settings.tls.is_some() == new.tls.is_some() {
            joined.tls = tls;
        }
        joined.node.engine().set_authentication(authentication);
        if joined.settings.login != new.login {
            joined.settings.login.clone_from(&new.login);
            joined.node.engine().log_in_again(now);
        }
    }
}

/// Reads how the node proves who it is.
fn authentication_of(cluster: &Cluster) -> Result<Authentication, ConfigError> {
    match &cluster.login {
        None => Ok(Authentication::None),
        Some(ClusterLogin::Password { user_name, password }) => {
            Ok(Authentication::Password { user: user_name.clone(), password: Secret::new(password) })
        }
        Some(ClusterLogin::Credentials(path)) => {
            let wrong = |why: &str| path.error_in(format_args!("{why} (cluster_credentials)"));
            let bytes =
                files::read(path, CREDENTIALS_MAXIMUM as u64).map_err(|why| wrong(&why.to_string()))?;
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| wrong("this is no credentials file of NATS"))?;
            Authentication::from_credentials(&text).map_err(|why| wrong(&why.to_string()))
        }
    }
}
