import PEFTSharding
import Testing
import Torch

@Suite struct LaunchEnvironmentTests {
    private static let torchrun = [
        "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "2", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8",
        "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "29400",
    ]
    private static let slurm = [
        "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1",
        "SLURM_NODELIST": "gpu[07-08]", "SLURM_JOB_ID": "123456", "SLURM_STEP_ID": "0",
    ]
    private static let openMPI = [
        "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0",
        "MASTER_ADDR": "head", "MASTER_PORT": "5000",
    ]
    private static let pyTorchJob = [
        "RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456",
    ]

    /// The problems of the variables, one text each: `variable: found`.
    private func problems(_ variables: [String: String]) -> [String] {
        let error = #expect(throws: LaunchError.self) { _ = try LaunchEnvironment(variables) }
        return (error?.problems ?? []).map { "\($0.variable): \($0.found ?? "nothing")" }
    }

    @Test(arguments: [
        [:], ["PATH": "/bin"], ["SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NODELIST": "a"],
        // A batch script, which srun has not started.
        [
            "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NODELIST": "a", "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0",
        ],
        // The shell of salloc where it is a step.
        [
            "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NODELIST": "a", "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0", "SLURM_STEP_ID": "4294967290",
        ],
    ])
    func processThatNobodyLaunchedIsAlone(variables: [String: String]) throws {
        let environment = try LaunchEnvironment(variables)
        #expect(environment.launcher == .none)
        #expect(environment.rank == 0)
        #expect(environment.numRanks == 1)
        #expect(environment.localRank == 0)
        #expect(environment.rendezvous == nil)
        #expect(environment.restartCount == 0)
    }

    @Test func torchrunIsRead() throws {
        let environment = try LaunchEnvironment(Self.torchrun)
        #expect(environment.launcher == .torchrun)
        #expect(environment.rank == 5)
        #expect(environment.numRanks == 8)
        #expect(environment.localRank == 1)
        #expect(environment.restartCount == 2)
        #expect(
            environment.rendezvous == .init(host: "10.0.0.7", port: 29400, isHostedByLauncher: true)
        )
    }

    @Test(arguments: ["False", nil])
    func withoutAgentStoreRankZeroHosts(value: String?) throws {
        var variables = Self.torchrun
        variables["TORCHELASTIC_USE_AGENT_STORE"] = value
        #expect(try LaunchEnvironment(variables).rendezvous?.isHostedByLauncher == false)
    }

    @Test func slurmIsReadWithHostAndPortFromTheJob() throws {
        let environment = try LaunchEnvironment(Self.slurm)
        #expect(environment.launcher == .slurm)
        #expect(environment.rank == 3)
        #expect(environment.numRanks == 4)
        #expect(environment.localRank == 1)
        #expect(
            environment.rendezvous == .init(host: "gpu07", port: 18456, isHostedByLauncher: false))
    }

    @Test func slurmStepAndMasterVariablesWin() throws {
        var variables = Self.slurm.merging(["SLURM_STEP_NODELIST": "gpu08"]) { $1 }
        #expect(try LaunchEnvironment(variables).rendezvous?.host == "gpu08")
        variables["MASTER_ADDR"] = "other"
        variables["MASTER_PORT"] = "1234"
        #expect(
            try LaunchEnvironment(variables).rendezvous
                == .init(host: "other", port: 1234, isHostedByLauncher: false))
    }

    @Test(arguments: [("123456", "1", 19_453), ("123457", "0", 18_457), ("6555", "9997", 18_564)])
    func slurmStepsAndJobsHavePortsOfTheirOwn(job: String, step: String, port: UInt16) throws {
        let variables = Self.slurm.merging(["SLURM_JOB_ID": job, "SLURM_STEP_ID": step]) { $1 }
        #expect(try LaunchEnvironment(variables).rendezvous?.port == port)
    }

    /// Ranks that a batch script numbers itself, one process after the other.
    @Test func aBatchScriptContradictsNobody() throws {
        var variables = Self.slurm.merging(Self.pyTorchJob) { $1 }
        variables["SLURM_STEP_ID"] = nil
        variables["SLURM_PROCID"] = "0"
        variables["SLURM_NTASKS"] = "3"
        #expect(try LaunchEnvironment(variables).rank == 1)
    }

    @Test func slurmJobOfOneTaskNeedsNoRendezvous() throws {
        let environment = try LaunchEnvironment([
            "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "3",
        ])
        #expect(environment.numRanks == 1)
        #expect(environment.rendezvous == nil)
    }

    @Test func openMPIIsRead() throws {
        let environment = try LaunchEnvironment(Self.openMPI)
        #expect(environment.launcher == .openMPI)
        #expect(environment.rank == 1)
        #expect(environment.numRanks == 2)
        #expect(
            environment.rendezvous == .init(host: "head", port: 5000, isHostedByLauncher: false))
    }

    @Test func pyTorchJobIsReadWithoutLocalRank() throws {
        let environment = try LaunchEnvironment(Self.pyTorchJob)
        #expect(environment.launcher == .pyTorchJob)
        #expect(environment.rank == 1)
        #expect(environment.localRank == 0)
        #expect(
            environment.rendezvous
                == .init(host: "job-master-0", port: 23456, isHostedByLauncher: false))
    }

    @Test func innermostLauncherCounts() throws {
        #expect(
            try LaunchEnvironment(Self.slurm.merging(Self.torchrun) { $1 }).launcher == .torchrun)
        #expect(try LaunchEnvironment(Self.slurm.merging(Self.openMPI) { $1 }).launcher == .openMPI)
    }

    @Test(arguments: [
        (torchrun, "RANK"), (torchrun, "WORLD_SIZE"), (torchrun, "LOCAL_RANK"),
        (torchrun, "MASTER_ADDR"), (torchrun, "MASTER_PORT"),
        (pyTorchJob, "RANK"), (pyTorchJob, "MASTER_ADDR"), (pyTorchJob, "MASTER_PORT"),
        (openMPI, "OMPI_COMM_WORLD_RANK"), (openMPI, "OMPI_COMM_WORLD_LOCAL_RANK"),
        (openMPI, "MASTER_ADDR"), (slurm, "SLURM_NTASKS"), (slurm, "SLURM_LOCALID"),
        (slurm, "SLURM_NODELIST"), (slurm, "SLURM_JOB_ID"),
    ])
    func missingVariableIsNamed(variables: [String: String], missing: String) {
        var variables = variables
        variables[missing] = nil
        // Without the number of ranks nothing else can be wrong; without a rank, the rank is taken as 0.
        #expect(problems(variables) == ["\(missing): nothing"])
    }

    @Test(arguments: [
        ("RANK", "8"), ("RANK", "-1"), ("RANK", "one"), ("RANK", ""), ("WORLD_SIZE", "0"),
        ("LOCAL_RANK", "8"), ("MASTER_ADDR", ""), ("MASTER_PORT", "0"), ("MASTER_PORT", "65536"),
        ("TORCHELASTIC_USE_AGENT_STORE", "yes"), ("TORCHELASTIC_RESTART_COUNT", "-1"),
    ])
    func wrongValueIsNamed(variable: String, value: String) {
        #expect(
            problems(Self.torchrun.merging([variable: value]) { $1 }) == ["\(variable): \(value)"])
    }

    @Test func malformedNodeListIsNamed() {
        #expect(
            problems(Self.slurm.merging(["SLURM_NODELIST": "gpu[07-"]) { $1 })
                == ["SLURM_NODELIST: gpu[07-"])
    }

    @Test func ranksOfTwoLaunchersThatContradictEachOtherAreAnError() {
        let error = #expect(throws: LaunchError.self) {
            _ = try LaunchEnvironment(
                Self.slurm.merging([
                    "RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "gpu07", "MASTER_PORT": "5000",
                ]) { $1 })
        }
        #expect(
            error?.description == """
                launched by PyTorchJob: RANK: expected 3, the SLURM_PROCID that Slurm gave, found '0'; \
                unset RANK and WORLD_SIZE to go by Slurm, or set both alike
                """)
    }

    @Test func allProblemsAreReportedTogetherWithTheirRemedies() {
        let error = #expect(throws: LaunchError.self) {
            _ = try LaunchEnvironment([
                "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "2",
                "OMPI_COMM_WORLD_LOCAL_RANK": "0", "MASTER_PORT": "high",
            ])
        }
        #expect(
            error?.description == """
                launched by Open MPI: \
                OMPI_COMM_WORLD_RANK: expected a number below OMPI_COMM_WORLD_SIZE=2, found '2'; \
                start with mpirun, which sets it
                MASTER_ADDR: expected name or address of the host of rank 0, found nothing; \
                pass it to all ranks: mpirun -x MASTER_ADDR=... -x MASTER_PORT=...
                MASTER_PORT: expected a free port on the host of rank 0, 1 to 65535, found 'high'; \
                pass it to all ranks: mpirun -x MASTER_ADDR=... -x MASTER_PORT=...
                """)
    }

    @Test func processAloneFormsAGroupOfOne() throws {
        let group = try LaunchEnvironment([:]).makeProcessGroup(timeoutSeconds: 10)
        #expect(group.size == 1)
        try group.barrier()
    }
}
