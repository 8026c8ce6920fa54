import PEFTSharding
import Testing

@Suite struct SlurmNodeListTests {
    @Test(arguments: [
        ("node1", ["node1"]),
        ("a,b-2,c.example", ["a", "b-2", "c.example"]),
        ("node[3-5]", ["node3", "node4", "node5"]),
        ("node[08-11,20]", ["node08", "node09", "node10", "node11", "node20"]),
        ("gpu5,node[01-02],x[7]", ["gpu5", "node01", "node02", "x7"]),
        ("r[1-2]n[1-2]s", ["r1n1s", "r1n2s", "r2n1s", "r2n2s"]),
    ])
    func listExpandsInOrder(list: String, hosts: [String]) {
        #expect(SlurmNodeList.expand(list) == hosts)
    }

    @Test(arguments: [
        "", "a,,b", "node[1-", "node1]", "node[[1]]", "node[3-1]", "node[a-b]", "node[]",
        "n[1-2-3]",
    ])
    func malformedListIsNoList(list: String) {
        #expect(SlurmNodeList.expand(list) == nil)
    }
}
