// swift-tools-version: 6.2
import Foundation
import PackageDescription

// The libtorch of the wheel `torch`: $LIBTORCH, else the link that `make libtorch` leaves in the checkout.
let libtorch = Context.environment["LIBTORCH"] ?? Context.packageDirectory + "/.libtorch"

/// The backend NCCL is compiled where libtorch is a CUDA build, with the headers of CUDA and NCCL in the wheels beside it.
let nvidia = libtorch + "/../nvidia"
let cudaHeaders = [nvidia + "/cu13/include", nvidia + "/nccl/include"]
let hasNCCL = [
    libtorch + "/lib/libtorch_cuda.so", cudaHeaders[0] + "/crt/host_config.h",
    cudaHeaders[1] + "/nccl.h",
].allSatisfy(FileManager.default.fileExists)
let cudaSettings: [CXXSetting] = [
    .define("CTORCH_HAS_NCCL"), .unsafeFlags(cudaHeaders.flatMap { ["-isystem", $0] }),
]
let cudaLibraries: [LinkerSetting] = [.linkedLibrary("torch_cuda"), .linkedLibrary("c10_cuda")]

// What `make setup` leaves in the checkout of the wheel `pyarrow`.
let arrow = Context.packageDirectory + "/.libarrow"

let libtorchHeaders = CXXSetting.unsafeFlags([
    "-O2", "-isystem", libtorch + "/include",
    "-isystem", libtorch + "/include/torch/csrc/api/include",
])

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .treatAllWarnings(as: .error),
]

/// A Swift library target with the project's strict settings; its imports go one way (docs/architecture.md).
func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(
        name: name, dependencies: dependencies + ["TestSupport"], swiftSettings: strict)
}

/// What a target that imports `PEFT` depends on.
///
/// The modules behind it are named too: when only one of them changes, the package manager would not compile such a target again
/// for the sake of `PEFT` alone, whose own module stays the same, and the program would crash on values of another layout.
let umbrella: [Target.Dependency] = [
    "PEFT", "PEFTTraining", "PEFTCheckpoints", "PEFTSharding", "PEFTAdapters", "PEFTQuantization",
    "PEFTModels", "PEFTLayers", "PEFTData", "PEFTTokenizers", "Torch",
]

let targets: [Target] = [
    .target(
        name: "CTorch",
        cxxSettings: [
            .headerSearchPath("gloo_declarations"), libtorchHeaders,
        ] + (hasNCCL ? cudaSettings : []),
        linkerSettings: [
            .unsafeFlags([
                "-L" + libtorch + "/lib", "-Xlinker", "-rpath", "-Xlinker", libtorch + "/lib",
            ]),
            .linkedLibrary("torch_cpu"), .linkedLibrary("c10"),
        ] + (hasNCCL ? cudaLibraries : [])),
    .target(name: "CKernels", cxxSettings: [.unsafeFlags(["-O3", "-fno-math-errno"])]),
    .target(name: "CProcess", linkerSettings: [.linkedLibrary("jemalloc")]),
    // The header of PEFTParquet, which is loaded at run time and not linked (docs/decisions/0029).
    .systemLibrary(name: "CParquet"),
    .target(
        name: "PEFTParquet", publicHeadersPath: ".",
        cxxSettings: [
            .unsafeFlags(["-O2", "-fvisibility=hidden", "-isystem", arrow + "/include"])
        ],
        linkerSettings: [
            .unsafeFlags(["-L" + arrow, "-Xlinker", "-rpath", "-Xlinker", arrow]),
            .linkedLibrary("parquet"), .linkedLibrary("arrow"),
        ]),
    .systemLibrary(name: "COniguruma", providers: [.apt(["libonig-dev"])]),
    .systemLibrary(name: "CYAML", providers: [.apt(["libyaml-dev"])]),

    library("Torch", ["CTorch"]),
    library("PEFTLayers", ["Torch", "CKernels"]),
    library("PEFTQuantization", ["PEFTLayers", "Torch", "CKernels"]),
    library("PEFTAdapters", ["PEFTLayers", "Torch"]),
    library("PEFTModels", ["PEFTLayers", "Torch"]),
    library("PEFTSharding", ["PEFTLayers", "Torch"]),
    library(
        "PEFTCheckpoints",
        ["PEFTAdapters", "PEFTQuantization", "PEFTModels", "PEFTLayers", "Torch"]),
    library("PEFTTokenizers", ["COniguruma"]),
    library("PEFTData", ["PEFTTokenizers", "CParquet"]),
    library(
        "PEFTTraining",
        [
            "PEFTCheckpoints", "PEFTSharding", "PEFTAdapters", "PEFTQuantization", "PEFTModels",
            "PEFTLayers", "PEFTData", "PEFTTokenizers", "Torch", "CYAML",
        ]),
    library("PEFT", Array(umbrella.dropFirst())),
    .executableTarget(
        name: "PEFTCommand", dependencies: umbrella + ["CProcess"], swiftSettings: strict),
    .executableTarget(
        name: "FineTuneModel", dependencies: umbrella, path: "Examples/FineTuneModel",
        swiftSettings: strict),
    .executableTarget(
        name: "CustomAdapter", dependencies: umbrella, path: "Examples/CustomAdapter",
        swiftSettings: strict),
    .executableTarget(
        name: "CustomModel", dependencies: umbrella, path: "Examples/CustomModel",
        swiftSettings: strict),
    .executableTarget(
        name: "CustomLoss", dependencies: umbrella, path: "Examples/CustomLoss",
        swiftSettings: strict),
    .executableTarget(
        name: "Mistakes", dependencies: umbrella, path: "Examples/Mistakes",
        swiftSettings: strict),

    .executableTarget(
        name: "KernelTimes", dependencies: umbrella, path: "Benchmarks/KernelTimes",
        swiftSettings: strict),

    .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: strict),
    .target(
        name: "TrainingTestSupport", dependencies: umbrella + ["TestSupport"],
        path: "Tests/TrainingTestSupport", swiftSettings: strict),
    .executableTarget(
        name: "CollectiveRank", dependencies: ["PEFTSharding", "Torch"],
        path: "Tests/CollectiveRank", swiftSettings: strict),
    .executableTarget(
        name: "Fuzz", dependencies: Array(umbrella.dropFirst()), path: "Tests/Fuzz",
        swiftSettings: strict),
    .executableTarget(
        name: "TokenizerProbe", dependencies: ["PEFTTokenizers"], path: "Tests/TokenizerProbe",
        swiftSettings: strict),
    tests("TorchTests", ["Torch", "CollectiveRank"]),
    tests("PEFTLayersTests", ["PEFTLayers", "Torch", "CKernels"]),
    tests("PEFTQuantizationTests", ["PEFTQuantization", "PEFTLayers", "Torch", "CKernels"]),
    tests("PEFTAdaptersTests", ["PEFTAdapters", "PEFTLayers", "Torch"]),
    tests(
        "PEFTShardingTests",
        ["PEFTSharding", "PEFTLayers", "Torch"]),
    tests(
        "PEFTModelsTests",
        [
            "PEFTModels", "PEFTCheckpoints", "PEFTAdapters", "PEFTQuantization", "PEFTLayers",
            "Torch",
        ]),
    tests(
        "PEFTCheckpointsTests",
        [
            "PEFTCheckpoints", "PEFTAdapters", "PEFTQuantization", "PEFTModels", "PEFTLayers",
            "Torch",
        ]),
    .target(
        name: "CSimulatedDevice", path: "Tests/CSimulatedDevice", cxxSettings: [libtorchHeaders]),
    tests("DeviceTests", umbrella + ["CSimulatedDevice", "CKernels", "TrainingTestSupport"]),
    tests("PEFTTokenizersTests", ["PEFTTokenizers"]),
    tests("PEFTDataTests", ["PEFTData", "PEFTTokenizers"]),
    tests("PEFTTrainingTests", umbrella + ["TrainingTestSupport"]),
    tests("PEFTCommandTests", umbrella + ["PEFTCommand", "TrainingTestSupport"]),
]

let package = Package(
    name: "swift-peft",
    products: [
        .library(name: "PEFT", targets: ["PEFT"]),
        .library(name: "PEFTParquet", type: .dynamic, targets: ["PEFTParquet"]),
        .executable(name: "peft", targets: ["PEFTCommand"]),
    ],
    targets: targets,
    cxxLanguageStandard: .cxx20
)
