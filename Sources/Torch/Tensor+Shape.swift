import CTorch

extension Tensor {
    /// The same elements in another shape, copied only if they must be; one size may be -1.
    public func reshape(_ shape: [Int]) throws(TorchError) -> Tensor {
        let sizes = shape.map(Int64.init)
        return try .make("reshape", [self]) {
            ctorch_shape_reshape(handle, sizes, Int32(sizes.count), $0)
        }
    }

    /// A view with two dimensions exchanged.
    public func transposed(_ first: Int = -2, _ second: Int = -1) throws(TorchError) -> Tensor {
        try .make("transpose", [self]) {
            ctorch_shape_transpose(handle, Int64(first), Int64(second), $0)
        }
    }

    /// A view with the dimensions in another order.
    public func permuted(_ dims: [Int]) throws(TorchError) -> Tensor {
        let axes = dims.map(Int64.init)
        return try .make("permute", [self]) {
            ctorch_shape_permute(handle, axes, Int32(axes.count), $0)
        }
    }

    /// A view of `length` entries of a dimension from `start` on.
    public func narrow(_ dim: Int, _ start: Int, _ length: Int) throws(TorchError) -> Tensor {
        try .make("narrow", [self]) {
            ctorch_shape_narrow(handle, Int64(dim), Int64(start), Int64(length), $0)
        }
    }

    /// A view of one entry of a dimension, which disappears.
    public func select(_ dim: Int, _ index: Int) throws(TorchError) -> Tensor {
        try .make("select", [self]) {
            ctorch_shape_select(handle, Int64(dim), Int64(index), $0)
        }
    }

    /// A view with a new dimension of size one.
    public func unsqueezed(_ dim: Int) throws(TorchError) -> Tensor {
        try .make("unsqueeze", [self]) { ctorch_shape_unsqueeze(handle, Int64(dim), $0) }
    }

    /// A view that repeats dimensions of size one; -1 keeps a size.
    public func expanded(_ shape: [Int]) throws(TorchError) -> Tensor {
        let sizes = shape.map(Int64.init)
        return try .make("expand", [self]) {
            ctorch_shape_expand(handle, sizes, Int32(sizes.count), $0)
        }
    }

    /// The elements in row-major order without gaps; the same tensor if it has it already.
    public func contiguous() throws(TorchError) -> Tensor {
        guard !isContiguous else { return self }
        return try .make("contiguous", [self]) { ctorch_shape_contiguous(handle, $0) }
    }

    /// A copy in memory of its own; autograd passes through it.
    public func clone() throws(TorchError) -> Tensor {
        try .make("clone", [self]) { ctorch_shape_clone(handle, $0) }
    }

    /// Joins tensors along a dimension that they have.
    public static func concatenated(
        _ tensors: [Tensor], dim: Int = 0
    ) throws(TorchError) -> Tensor {
        let handles: [OpaquePointer?] = tensors.map(\.handle)
        defer { withExtendedLifetime(tensors) {} }
        return try make("cat", tensors) {
            ctorch_shape_cat(handles, Int32(handles.count), Int64(dim), $0)
        }
    }

    /// Joins tensors of one shape along a new dimension.
    public static func stacked(_ tensors: [Tensor], dim: Int = 0) throws(TorchError) -> Tensor {
        let handles: [OpaquePointer?] = tensors.map(\.handle)
        defer { withExtendedLifetime(tensors) {} }
        return try make("stack", tensors) {
            ctorch_shape_stack(handles, Int32(handles.count), Int64(dim), $0)
        }
    }

    /// The entries of a dimension that int32 or int64 indices name, in their order.
    public func indexSelected(_ dim: Int, _ indices: Tensor) throws(TorchError) -> Tensor {
        try .make("index_select", [self, indices]) {
            ctorch_shape_index_select(handle, Int64(dim), indices.handle, $0)
        }
    }

    /// Self with `source[i]` added to entry `indices[i]` of a dimension.
    public func indexAdded(
        _ dim: Int, _ indices: Tensor, _ source: Tensor
    ) throws(TorchError) -> Tensor {
        try .make("index_add", [self, indices, source]) {
            ctorch_shape_index_add(handle, Int64(dim), indices.handle, source.handle, $0)
        }
    }

    /// The elements of the last dimension in stable order, with their old positions (int64).
    public func sorted(
        descending: Bool = false
    ) throws(TorchError) -> (values: Tensor, indices: Tensor) {
        var values: OpaquePointer?
        var indices: OpaquePointer?
        try check("sort", [self], ctorch_shape_sort(handle, descending, &values, &indices))
        guard let values, let indices else { throw TorchError.last("sort", [self]) }
        let result = (values: Tensor(owning: values), indices: Tensor(owning: indices))
        if let trace = Trace.current {
            trace.note("sort", [self], [result.values, result.indices])
        }
        return result
    }

    /// The running sum along a dimension.
    public func cumulativeSum(_ dim: Int) throws(TorchError) -> Tensor {
        try .make("cumsum", [self]) { ctorch_shape_cumsum(handle, Int64(dim), $0) }
    }
}
