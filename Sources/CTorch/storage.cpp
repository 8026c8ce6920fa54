// Tensors whose memory comes and goes while they stay: what a gathered unit is made of.
#include "internal.h"

#include <c10/core/ScalarTypeToTypeMeta.h>
#include <c10/core/TensorOptions.h>

using namespace ctorch;

namespace {

c10::StorageImpl &storageOf(CTorchTensor value) { return *tensor(value).storage().unsafeGetStorageImpl(); }

// Made without at::Tensor::set_, which looks at the memory.
at::Tensor viewOf(const c10::Storage &storage, int64_t offset, at::IntArrayRef shape, caffe2::TypeMeta dtype) {
  const auto key = c10::TensorOptions().dtype(dtype).device(storage.device()).computeDispatchKey();
  auto view = at::detail::make_tensor<at::TensorImpl>(c10::Storage(storage), c10::DispatchKeySet(key), dtype);
  view.unsafeGetTensorImpl()->set_sizes_contiguous(shape);
  view.unsafeGetTensorImpl()->set_storage_offset(offset);
  return view;
}

// A dry run's storages never have any.
void takeMemoryAway(c10::StorageImpl &storage, const char *message) {
  if (storage.device().is_meta()) return;
  storage.set_data_ptr_noswap(at::DataPtr(nullptr, storage.device()));
  storage.release_data_and_set_meta_custom_data_ptr_error_msg_(std::string(message));
}

}  // namespace

extern "C" {

int32_t ctorch_storage_make(int64_t size, CTorchDevice place, const char *message, CTorchTensor *out) {
  CTORCH_TRY({
    const c10::Device device = isDryRun ? c10::Device(c10::kMeta) : deviceOf(place);
    auto storage = c10::Storage(c10::make_intrusive<c10::StorageImpl>(
        c10::StorageImpl::use_byte_size_t(), static_cast<size_t>(size), at::DataPtr(nullptr, device),
        /*allocator=*/nullptr, /*resizable=*/false));
    takeMemoryAway(*storage.unsafeGetStorageImpl(), message);
    *out = makeHandle(viewOf(storage, 0, {size}, caffe2::TypeMeta::Make<uint8_t>()));
  });
}

int32_t ctorch_storage_view(CTorchTensor bytes, int64_t offset, const int64_t *shape, int32_t dims, int32_t dtype,
                            CTorchTensor *out) {
  CTORCH_TRY({
    const auto type = c10::scalarTypeToTypeMeta(static_cast<at::ScalarType>(dtype));
    const auto itemSize = static_cast<int64_t>(type.itemsize());
    const auto extents = sizes(shape, dims);
    TORCH_CHECK(offset % itemSize == 0, "byte offset ", offset, " does not fit elements of ", itemSize, " bytes");
    TORCH_CHECK(offset + c10::multiply_integers(extents) * itemSize <= static_cast<int64_t>(storageOf(bytes).nbytes()),
                "the view ends beyond its storage");
    *out = makeHandle(viewOf(tensor(bytes).storage(), offset / itemSize, extents, type));
  });
}

int32_t ctorch_storage_lend(CTorchTensor bytes, CTorchTensor buffer, const char *message) {
  CTORCH_TRY({
    auto &storage = storageOf(bytes);
    if (!buffer) {
      takeMemoryAway(storage, message);
    } else {
      const auto &owner = tensor(buffer);
      TORCH_CHECK(owner.is_contiguous() && owner.nbytes() >= storage.nbytes(), "a buffer of ", owner.nbytes(),
                  " bytes for a storage of ", storage.nbytes());
      if (storage.device().is_meta()) return 0;
      TORCH_CHECK(owner.device() == storage.device(), "a buffer on ", owner.device(), " for a storage on ",
                  storage.device());
      // The lent pointer keeps the buffer's memory alive for as long as it is lent.
      auto *keeper = new at::Tensor(owner);
      at::DataPtr pointer(owner.data_ptr(), keeper, [](void *kept) { delete static_cast<at::Tensor *>(kept); },
                          storage.device());
      storage.clear_data_ptr_access_error_msg_();
      storage.set_data_ptr_noswap(std::move(pointer));
    }
  });
}

int32_t ctorch_storage_adopt(CTorchTensor value, CTorchTensor source) {
  CTORCH_TRY(tensor(value).set_data(tensor(source)));
}

}  // extern "C"
