use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A process that ends with its handle, and with this process, however that ends.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Everything it prints goes to the end of `log`.
    pub fn start(program: &str, arguments: &[String], log: PathBuf) -> Self {
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new("setpriv")
            // A test that is killed runs no destructors.
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("setpriv (of util-linux) starts");
        Self { child, log }
    }

    /// As a crash or a lost node ends it: it gets no chance to say goodbye.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// As a machine without a moment to spare delays it.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// Its resident set, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it runs");
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill starts").success());
    }

    pub fn assert_runs(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            panic!("ended with {status}; {} ends with\n{}", self.log.display(), tail.join("\n"));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of 127.0.0.1 that nobody listens on, below those that the kernel gives to outgoing connections and above those
/// of `deploy/local/up --free-ports`. It belongs to this process until that ends, however it ends: another run of these
/// tests on the same machine is given others.
pub fn free_port() -> SocketAddr {
    static MINE: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    for _ in 0..1000 {
        let port = rand::random_range(20_000..32_000);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // The name of an abstract socket is nowhere in the file system, and free when its process is gone.
        let name = UnixAddr::from_abstract_name(format!("spark-session-operator-tests-port-{port}")).unwrap();
        if let Ok(claim) = UnixListener::bind_addr(&name)
            && TcpListener::bind(address).is_ok()
        {
            MINE.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
            return address;
        }
    }
    panic!("no free port between 20000 and 32000");
}

/// Where logs go: beside those of the environment, which `tests/run` keeps when a test fails.
pub fn log_file(scenario: &str, part: &str) -> PathBuf {
    let folder = match std::env::var_os("SPARK_LOCAL_STATE") {
        Some(state) => PathBuf::from(state).join("logs"),
        None => std::env::temp_dir(),
    };
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{scenario}-{part}.log"))
}
