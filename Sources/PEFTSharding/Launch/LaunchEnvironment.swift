/// Who started the processes of a run.
package enum Launcher: String, Sendable, CaseIterable {
    /// Nobody in particular: one process.
    case none = "hand"
    /// torchrun: `TORCHELASTIC_RUN_ID` is set.
    case torchrun
    /// Variables of PyTorch's convention without torchrun, as a Kubernetes PyTorchJob sets them: `RANK`.
    case pyTorchJob = "PyTorchJob"
    /// mpirun of Open MPI: `OMPI_COMM_WORLD_RANK`.
    case openMPI = "Open MPI"
    /// srun of Slurm: `SLURM_PROCID` and `SLURM_STEP_ID`.
    case slurm = "Slurm"
}

/// This process's place in a run, as its launcher tells it in environment variables.
///
/// Several launchers may have left variables (torchrun started by srun): the innermost counts, which is the first of
/// torchrun, PyTorchJob, Open MPI, Slurm that is there. A Slurm allocation without a step is no launcher: its batch script
/// and the shell of salloc have `SLURM_PROCID` and `SLURM_NTASKS`, too, but are not started once a task.
package struct LaunchEnvironment: Equatable, Sendable {
    /// Where the processes find each other.
    package struct Rendezvous: Equatable, Sendable {
        /// Name or address of the host of rank 0.
        package let host: String
        /// The port of the store.
        package let port: UInt16
        /// Whether the launcher hosts the store; else rank 0 does.
        package let isHostedByLauncher: Bool

        /// A meeting point.
        package init(host: String, port: UInt16, isHostedByLauncher: Bool) {
            self.host = host
            self.port = port
            self.isHostedByLauncher = isHostedByLauncher
        }
    }

    /// Who started this process.
    package let launcher: Launcher
    /// This process's number, from zero.
    package let rank: Int
    /// The number of processes.
    package let numRanks: Int
    /// This process's number on its host, from zero: the number of its device.
    package let localRank: Int
    /// Where the processes find each other; nil for one process.
    package let rendezvous: Rendezvous?
    /// How often the launcher has restarted the run.
    package let restartCount: Int
    /// Whether `GLOO_SOCKET_IFNAME` says by which network interface the processes reach each other.
    package let namesInterface: Bool

    /// Reads the variables of a process.
    ///
    /// - Parameter variables: the process's environment.
    /// - Throws: `LaunchError` if they are incomplete, malformed or contradict each other.
    package init(_ variables: [String: String]) throws(LaunchError) {
        var reader = LaunchVariables(variables)
        launcher = reader.launcher
        namesInterface = variables["GLOO_SOCKET_IFNAME"].map { !$0.isEmpty } ?? false
        let names = reader.names
        let isAlone = launcher == .none
        numRanks =
            isAlone ? 1 : reader.number(names.numRanks, from: 1, what: "the number of processes")
        rank = isAlone ? 0 : reader.number(names.rank, from: 0, what: "this process's rank")
        // A PyTorchJob runs one process a pod, and does not number it.
        let isLocalRankOptional = isAlone || launcher == .pyTorchJob
        localRank = reader.number(
            names.localRank, from: 0, what: "this process's number on its host",
            default: isLocalRankOptional ? 0 : nil)
        restartCount =
            names.restartCount.map {
                reader.number($0, from: 0, what: "how often the run was restarted", default: 0)
            } ?? 0
        reader.check(names.rank, rank, isBelow: numRanks, of: names.numRanks)
        reader.check(names.localRank, localRank, isBelow: numRanks, of: names.numRanks)
        reader.checkOtherLaunchers(rank: rank, numRanks: numRanks)
        rendezvous = numRanks == 1 ? nil : reader.rendezvous()
        try reader.throwProblems()
    }
}
