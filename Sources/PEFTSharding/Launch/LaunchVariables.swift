/// The variables of a process while they are read: collects every problem, so that all are reported together.
struct LaunchVariables {
    /// The names under which a launcher passes the numbers.
    struct Names {
        /// The process's number.
        let rank: String
        /// The number of processes.
        let numRanks: String
        /// The process's number on its host.
        let localRank: String
        /// How often the run was restarted; nil if the launcher does not tell.
        let restartCount: String?
    }

    /// The innermost launcher that has left variables.
    let launcher: Launcher
    private let variables: [String: String]
    private var problems: [LaunchError.Problem] = []

    /// Finds the launcher.
    init(_ variables: [String: String]) {
        self.variables = variables
        let isSet = { (name: String) in variables[name] != nil }
        launcher =
            if isSet("TORCHELASTIC_RUN_ID") {
                .torchrun
            } else if isSet("RANK") || isSet("WORLD_SIZE") || isSet("LOCAL_RANK") {
                .pyTorchJob
            } else if isSet("OMPI_COMM_WORLD_RANK") || isSet("OMPI_COMM_WORLD_SIZE") {
                .openMPI
            } else if isSet("SLURM_PROCID"), Self.isSlurmStep(variables) {
                .slurm
            } else {
                .none
            }
    }

    /// Whether the user's srun has started this process.
    ///
    /// A batch script has the variables of a task, too, but not a step's number; the shell of salloc may be a step whose number is
    /// one of those that Slurm keeps for itself (`SLURM_MAX_NORMAL_STEP_ID` in slurm.h).
    private static func isSlurmStep(_ variables: [String: String]) -> Bool {
        guard let step = variables["SLURM_STEP_ID"] ?? variables["SLURM_STEPID"] else {
            return false
        }
        return Int(step).map { $0 <= 0xFFFF_FFF0 } ?? true
    }

    /// The launcher's names.
    var names: Names { Self.names(of: launcher) }

    private static func names(of launcher: Launcher) -> Names {
        switch launcher {
        case .none, .torchrun, .pyTorchJob:
            Names(
                rank: "RANK", numRanks: "WORLD_SIZE", localRank: "LOCAL_RANK",
                restartCount: "TORCHELASTIC_RESTART_COUNT")
        case .openMPI:
            Names(
                rank: "OMPI_COMM_WORLD_RANK", numRanks: "OMPI_COMM_WORLD_SIZE",
                localRank: "OMPI_COMM_WORLD_LOCAL_RANK", restartCount: nil)
        case .slurm:
            Names(
                rank: "SLURM_PROCID", numRanks: "SLURM_NTASKS", localRank: "SLURM_LOCALID",
                restartCount: "SLURM_RESTART_COUNT")
        }
    }

    // MARK: - Numbers

    /// The whole number in a variable; notes a problem and returns the smallest if there is none.
    mutating func number(
        _ name: String, from smallest: Int, to largest: Int = Int(Int32.max), what: String,
        default: Int? = nil
    ) -> Int {
        if variables[name] == nil, let `default` { return `default` }
        guard let text = variables[name], let value = Int(text),
            (smallest...largest).contains(value)
        else {
            let range =
                largest == Int(Int32.max) ? "\(smallest) or more" : "\(smallest) to \(largest)"
            note(name, "\(what), \(range)", startRemedy)
            return smallest
        }
        return value
    }

    /// Notes a problem if a number is not below the count that bounds it.
    mutating func check(_ name: String, _ value: Int, isBelow count: Int, of countName: String) {
        guard value >= count, variables[countName].flatMap({ Int($0) }) == count else { return }
        note(name, "a number below \(countName)=\(count)", startRemedy)
    }

    /// Notes a problem if a launcher further out has started as many processes but gave this one another number.
    ///
    /// torchrun numbers its processes anew and is exempt.
    mutating func checkOtherLaunchers(rank: Int, numRanks: Int) {
        guard launcher != .torchrun, launcher != .none, numRanks > 1 else { return }
        for other in [Launcher.openMPI, .slurm] where other != launcher {
            if other == .slurm, !Self.isSlurmStep(variables) { continue }
            let names = Self.names(of: other)
            guard let otherRank = variables[names.rank].flatMap({ Int($0) }),
                variables[names.numRanks] == String(numRanks), otherRank != rank,
                !(launcher == .openMPI && other == .slurm)
            else { continue }
            note(
                self.names.rank, "\(otherRank), the \(names.rank) that \(other.rawValue) gave",
                "unset \(self.names.rank) and \(self.names.numRanks) to go by \(other.rawValue), or set both alike"
            )
        }
    }

    // MARK: - Rendezvous

    /// Where the processes find each other; notes what is missing.
    mutating func rendezvous() -> LaunchEnvironment.Rendezvous {
        LaunchEnvironment.Rendezvous(
            host: host(), port: port(), isHostedByLauncher: isHostedByLauncher())
    }

    private mutating func host() -> String {
        if let host = variables["MASTER_ADDR"], !host.isEmpty { return host }
        if launcher == .slurm, variables["MASTER_ADDR"] == nil { return firstSlurmHost() }
        note("MASTER_ADDR", "name or address of the host of rank 0", addressRemedy)
        return ""
    }

    private mutating func firstSlurmHost() -> String {
        let candidates = ["SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST"]
        let name = candidates.first { variables[$0] != nil } ?? "SLURM_NODELIST"
        if let list = variables[name], let host = SlurmNodeList.expand(list)?.first { return host }
        note(name, "a list of hosts such as node[01-03,07]", startRemedy)
        return ""
    }

    private mutating func port() -> UInt16 {
        let remedy = addressRemedy
        if launcher == .slurm, variables["MASTER_PORT"] == nil { return slurmPort() }
        guard let port = variables["MASTER_PORT"].flatMap({ UInt16($0) }), port > 0 else {
            note("MASTER_PORT", "a free port on the host of rank 0, 1 to 65535", remedy)
            return 0
        }
        return port
    }

    /// The same on all ranks, different for jobs and steps of a job that share a host.
    ///
    /// 15000 and the last four digits of `job + 997 step`, so that the steps of a job are far from the jobs after it.
    private mutating func slurmPort() -> UInt16 {
        let job = slurmNumber("SLURM_JOB_ID", "SLURM_JOBID", what: "the number of the job")
        let step = slurmNumber("SLURM_STEP_ID", "SLURM_STEPID", what: "the number of the step")
        return UInt16(15_000 + (job + 997 * step) % 10_000)
    }

    private mutating func slurmNumber(_ name: String, _ oldName: String, what: String) -> Int {
        let isOld = variables[name] == nil && variables[oldName] != nil
        return number(isOld ? oldName : name, from: 0, what: what)
    }

    private mutating func isHostedByLauncher() -> Bool {
        guard launcher == .torchrun, let text = variables["TORCHELASTIC_USE_AGENT_STORE"] else {
            return false
        }
        if !["True", "False"].contains(text) {
            note("TORCHELASTIC_USE_AGENT_STORE", "True or False", startRemedy)
        }
        return text == "True"
    }

    // MARK: - Problems

    /// Throws what was noted.
    func throwProblems() throws(LaunchError) {
        guard problems.isEmpty else { throw LaunchError(launcher: launcher, problems: problems) }
    }

    private mutating func note(_ name: String, _ expected: String, _ remedy: String) {
        problems.append(
            .init(variable: name, expected: expected, found: variables[name], remedy: remedy))
    }

    private var startRemedy: String {
        switch launcher {
        case .none: "unset it"
        case .torchrun: "start with torchrun, which sets it, and do not change it"
        case .pyTorchJob:
            "set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for every process, or unset all of them to run one"
        case .openMPI: "start with mpirun, which sets it"
        case .slurm: "start with srun, which sets it"
        }
    }

    private var addressRemedy: String {
        switch launcher {
        case .openMPI: "pass it to all ranks: mpirun -x MASTER_ADDR=... -x MASTER_PORT=..."
        case .slurm: "unset it to go by the first host and the number of the job"
        default: startRemedy
        }
    }
}
