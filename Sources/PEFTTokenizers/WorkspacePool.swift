import Synchronization

/// Keeps the workspaces of finished encoding calls, so that their caches serve later ones.
///
/// Calls that run at the same time use different workspaces and never wait for one another's work.
package final class WorkspacePool: Sendable {
    private let idle = Mutex<[ModelWorkspace]>([])

    /// Makes an empty pool.
    package init() {}

    /// Takes a workspace out, or makes one.
    package func take() -> ModelWorkspace { idle.withLock { $0.popLast() } ?? ModelWorkspace() }

    /// Puts a workspace back, without the room that one huge piece may have taken.
    package func give(_ workspace: ModelWorkspace) {
        var workspace = workspace
        workspace.trim()
        idle.withLock { $0.append(workspace) }
    }
}
