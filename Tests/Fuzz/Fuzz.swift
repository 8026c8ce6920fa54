import Foundation

/// Reads changed files until a reader crashes, hangs, asks for too much memory or throws a foreign error.
///
/// `Fuzz run SECONDS [READER...]` fuzzes each reader that long and leaves what it finds in `fuzz-findings`;
/// `Fuzz replay` reads the committed inputs that once found something. Both exit 1 if anything is found.
/// The readers run in processes of their own: `Fuzz worker` and `Fuzz one` are for these.
@main enum Fuzz {
    static func main() throws {
        let arguments = Array(CommandLine.arguments.dropFirst())
        switch (arguments.first, arguments.count) {
        case ("worker", 6):
            guard let reader = reader(arguments[1]), let seed = UInt64(arguments[2]),
                let first = UInt64(arguments[3]), let until = Double(arguments[4])
            else { usage() }
            try Worker.fuzz(
                reader, seed: seed, first: first, until: Date(timeIntervalSince1970: until),
                scratch: URL(filePath: arguments[5]))
        case ("one", 3):
            guard let reader = reader(arguments[1]) else { usage() }
            try Worker.replay(reader, URL(filePath: arguments[2]))
        case ("replay", 1):
            exit(try replay() ? 0 : 1)
        case ("run", 2...):
            guard let seconds = Double(arguments[1]) else { usage() }
            let readers = arguments.dropFirst(2).map { name in
                guard let reader = reader(name) else { usage() }
                return reader
            }
            exit(try run(seconds, readers.isEmpty ? FuzzReader.all : readers) ? 0 : 1)
        default:
            usage()
        }
    }

    private static func reader(_ name: String) -> FuzzReader? {
        FuzzReader.all.first { $0.name == name }
    }

    private static func usage() -> Never {
        let names = FuzzReader.all.map(\.name).joined(separator: ", ")
        FileHandle.standardError.write(
            Data("usage: Fuzz run SECONDS [READER...] | Fuzz replay\nreaders: \(names)\n".utf8))
        exit(2)
    }

    /// Fuzzes; whether nothing was found.
    private static func run(_ seconds: Double, _ readers: [FuzzReader]) throws -> Bool {
        let seed = UInt64(Date().timeIntervalSince1970)
        let findings = FuzzFiles.root.appending(path: "fuzz-findings")
        var numFound = 0
        for reader in readers {
            let scratch = FileManager.default.temporaryDirectory
                .appending(path: "fuzz-\(reader.name)-\(getpid())")
            try FileManager.default.createDirectory(
                at: scratch, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: scratch) }
            let until = Date(timeIntervalSinceNow: seconds)
            var first: UInt64 = 0
            while Date() < until {
                let status = try start([
                    "worker", reader.name, String(seed), String(first),
                    String(until.timeIntervalSince1970), scratch.path,
                ])
                let index =
                    (try? String(contentsOf: scratch.appending(path: "index"), encoding: .utf8))
                    ?? "none"
                if index.hasSuffix("done") { first = UInt64(index.dropLast(5)) ?? first }
                if status == 0 { break }
                guard let last = UInt64(index) else {
                    print("\(reader.name): does not read its first sample: \(meaning(status))")
                    return false
                }
                numFound += 1
                first = last + 1
                let kept = findings.appending(path: "\(reader.name)/\(seed)-\(last)")
                try keep(scratch, as: kept)
                print("\(reader.name): input \(last): \(meaning(status)); kept in \(kept.path)")
            }
            print("\(reader.name): \(first) inputs, seed \(seed)")
            fflush(nil)
        }
        return numFound == 0
    }

    private static func keep(_ scratch: URL, as kept: URL) throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: scratch.path)
        guard let name = names.first(where: { $0.hasPrefix("input") }) else { return }
        let target = kept.appendingPathExtension(URL(filePath: name).pathExtension)
        try FileManager.default.createDirectory(
            at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
        try FileManager.default.copyItem(at: scratch.appending(path: name), to: target)
    }

    /// Reads the committed inputs; whether all ended well.
    private static func replay() throws -> Bool {
        var numRead = 0
        var numFailed = 0
        for reader in FuzzReader.all {
            let folder = FuzzFiles.corpus.appending(path: reader.name)
            let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
            for name in names.sorted() {
                let status = try start(["one", reader.name, folder.appending(path: name).path])
                numRead += 1
                if status == 0 { continue }
                numFailed += 1
                print("\(reader.name)/\(name): \(meaning(status))")
            }
        }
        print("fuzz: \(numRead) kept inputs read, \(numFailed) not read well")
        return numFailed == 0 && numRead > 0
    }

    /// Runs this program again; its exit status, or minus the signal that ended it.
    private static func start(_ arguments: [String]) throws -> Int32 {
        let process = Process()
        process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(
            ["SWIFT_BACKTRACE": "enable=no", "OMP_NUM_THREADS": "1"]
        ) { _, new in
            new
        }
        try process.run()
        process.waitUntilExit()
        let isSignal = process.terminationReason == .uncaughtSignal
        return isSignal ? -process.terminationStatus : process.terminationStatus
    }

    private static func meaning(_ status: Int32) -> String {
        switch status {
        case -SIGPROF: "took more than \(Worker.secondsPerInput) s"
        case ..<0: "ended by signal \(-status)"
        default: "exit status \(status)"
        }
    }
}
