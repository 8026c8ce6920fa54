// A device for tests: libtorch's PrivateUse1 backend over host memory that nothing but the device may touch.
//
// Its addresses are no addresses of the host: reading one there ends the process. So code that takes a tensor of the device
// for one in host memory cannot pass a test by accident.
#ifndef SIMULATED_DEVICE_H
#define SIMULATED_DEVICE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Makes the device known to libtorch, as `simulated:0`; once in a process, later calls do nothing.
void simulated_device_register(void);
// Bytes that tensors on the device hold now.
int64_t simulated_device_live_bytes(void);
// The most that they held together since the last reset.
int64_t simulated_device_peak_bytes(void);
void simulated_device_reset_peak(void);
// The device's memory, 1 GiB at first: an allocation beyond it fails.
void simulated_device_set_memory(int64_t bytes);
// Bytes of page-locked host memory that tensors hold now.
int64_t simulated_device_pinned_bytes(void);
// Copies so far: from host memory to the device, and back.
int64_t simulated_device_copies_to_device(void);
int64_t simulated_device_copies_to_host(void);

#ifdef __cplusplus
}
#endif
#endif
