/// What `peft launch` is told: how many processes, and what becomes of them.
public struct LaunchOptions: Hashable, Sendable {
    /// The number of processes.
    public var nproc = 1
    /// The port where they find each other; nil for a free one.
    public var port: Int?
    /// How often all are started anew after one has failed.
    public var maxRestarts = 0
    /// Seconds that the others have to end by themselves after one has failed.
    public var graceSeconds = 30.0
    /// Seconds from SIGTERM to SIGKILL for those that have not.
    public var killSeconds = 5.0
    /// The arguments of each process, its command first.
    public var arguments: [String] = []

    /// Makes options of defaults; `arguments` must still be set.
    public init() {}
}

extension LaunchOptions: ConfigurableOptions {
    /// Every option of `peft launch`; what follows `--` is not among them.
    package static let options: [ConfigOption<LaunchOptions>] = [
        .init("nproc", \.nproc, section: "Processes", help: "how many to start"),
        .init(
            "port", \.port, section: "Processes",
            help: "where they find each other; by default a free port"),
        .init(
            "max_restarts", \.maxRestarts, section: "Processes",
            help: "how often to start all anew after one has failed"),
        .init(
            "grace_seconds", \.graceSeconds, section: "Processes", placeholder: "SECONDS",
            help: "how long the others may take to end after one has failed"),
        .init(
            "kill_seconds", \.killSeconds, section: "Processes", placeholder: "SECONDS",
            help: "how long they may take to end after SIGTERM, until they are killed"),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.expect("nproc", nproc, "at least 1") { $0 >= 1 }
        checks.expect("max_restarts", maxRestarts, "at least 0") { $0 >= 0 }
        checks.expect("grace_seconds", graceSeconds, "at least 0") { $0 >= 0 && $0.isFinite }
        checks.expect("kill_seconds", killSeconds, "at least 0") { $0 >= 0 && $0.isFinite }
        if let port { checks.expect("port", port, "1 to 65535") { (1...65535).contains($0) } }
        return checks.problems
    }
}
