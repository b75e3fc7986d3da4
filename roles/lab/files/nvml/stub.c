/* Stand-in for libnvidia-ml.so.1 in the lab, which has no GPU: the device plugin and feature discovery are the real ones.
 *
 * What it says of the GPUs comes from /etc/nvidia-stub/gpus, lines of key=value, read when it is initialised and again and
 * again while somebody waits for events: count, name, driver, cuda (13.0), memory (MiB), capability (7.5), and
 * xid=GPU:CODE for a fault of a GPU, lost=GPU for one that has fallen off the bus.
 * The functions that are not here are made by rest.py, and answer that they are not supported. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include "nvml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define FACTS "/etc/nvidia-stub/gpus"
#define MOST 16
#define LOOK_AGAIN_MS 200
#define API __attribute__((visibility("default"))) nvmlReturn_t

struct nvmlDevice_st { unsigned index; };
struct watch { int registered[MOST]; int told[MOST]; };

static struct nvmlDevice_st devices[MOST];
static struct { unsigned count, memory; int cuda, major, minor, xid[MOST], lost[MOST]; char name[80], driver[80]; } facts;

static void read_facts(void) {
  char line[256];
  unsigned gpu;
  int code, major, minor;
  FILE *file = fopen(FACTS, "re");
  memset(&facts, 0, sizeof facts);
  for (gpu = 0; gpu < MOST; gpu++) devices[gpu].index = gpu;
  while (file && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    sscanf(line, "count=%u", &facts.count);
    sscanf(line, "memory=%u", &facts.memory);
    sscanf(line, "name=%79[^\n]", facts.name);
    sscanf(line, "driver=%79[^\n]", facts.driver);
    sscanf(line, "capability=%d.%d", &facts.major, &facts.minor);
    if (sscanf(line, "cuda=%d.%d", &major, &minor) == 2) facts.cuda = major * 1000 + minor * 10;
    if (sscanf(line, "xid=%u:%d", &gpu, &code) == 2 && gpu < MOST) facts.xid[gpu] = code;
    if (sscanf(line, "lost=%u", &gpu) == 1 && gpu < MOST) facts.lost[gpu] = 1;
  }
  if (file) fclose(file);
  if (facts.count > MOST) facts.count = MOST;
}

static nvmlReturn_t text(char *to, unsigned size, const char *from) {
  if (strlen(from) >= size) return NVML_ERROR_INSUFFICIENT_SIZE;
  strcpy(to, from);
  return NVML_SUCCESS;
}
static nvmlReturn_t state(nvmlDevice_t device) {
  if (!device || device->index >= facts.count) return NVML_ERROR_INVALID_ARGUMENT;
  return facts.lost[device->index] ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}
static void uuid_of(unsigned gpu, char *to) { sprintf(to, "GPU-1ab00000-0000-4000-8000-%012u", gpu); }
static void bus_of(unsigned gpu, char *to) { sprintf(to, "00000000:%02X:00.0", gpu + 1); }
#define IF_ALIVE(device) do { nvmlReturn_t is = state(device); if (is != NVML_SUCCESS) return is; } while (0)

API nvmlInit_v2(void) { read_facts(); return facts.count ? NVML_SUCCESS : NVML_ERROR_DRIVER_NOT_LOADED; }
API nvmlInit(void) { return nvmlInit_v2(); }
API nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
API nvmlShutdown(void) { return NVML_SUCCESS; }
__attribute__((visibility("default"))) const char *nvmlErrorString(nvmlReturn_t code) {
  switch (code) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
  }
}

API nvmlSystemGetDriverVersion(char *to, unsigned size) { return text(to, size, facts.driver); }
API nvmlSystemGetNVMLVersion(char *to, unsigned size) { return text(to, size, facts.driver); }
API nvmlSystemGetCudaDriverVersion(int *to) { *to = facts.cuda; return NVML_SUCCESS; }
API nvmlSystemGetCudaDriverVersion_v2(int *to) { *to = facts.cuda; return NVML_SUCCESS; }
API nvmlDeviceGetCount_v2(unsigned *to) { *to = facts.count; return NVML_SUCCESS; }
API nvmlDeviceGetCount(unsigned *to) { return nvmlDeviceGetCount_v2(to); }
API nvmlDeviceGetHandleByIndex_v2(unsigned gpu, nvmlDevice_t *to) {
  if (gpu >= facts.count) return NVML_ERROR_INVALID_ARGUMENT;
  *to = &devices[gpu];
  return state(*to);
}
API nvmlDeviceGetHandleByIndex(unsigned gpu, nvmlDevice_t *to) { return nvmlDeviceGetHandleByIndex_v2(gpu, to); }
API nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *to) {
  char one[64];
  for (unsigned gpu = 0; gpu < facts.count; gpu++) {
    uuid_of(gpu, one);
    if (!strcmp(one, uuid)) return nvmlDeviceGetHandleByIndex_v2(gpu, to);
  }
  return NVML_ERROR_NOT_FOUND;
}
API nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *to) {
  char one[64];
  for (unsigned gpu = 0; gpu < facts.count; gpu++) {
    bus_of(gpu, one);
    if (!strcasecmp(one, bus) || !strcasecmp(one + 4, bus)) return nvmlDeviceGetHandleByIndex_v2(gpu, to);
  }
  return NVML_ERROR_NOT_FOUND;
}

API nvmlDeviceGetUUID(nvmlDevice_t device, char *to, unsigned size) {
  char one[64];
  if (!device) return NVML_ERROR_INVALID_ARGUMENT;
  uuid_of(device->index, one);
  return text(to, size, one);
}
API nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *to) { IF_ALIVE(device); *to = device->index; return NVML_SUCCESS; }
API nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *to) { return nvmlDeviceGetIndex(device, to); }
API nvmlDeviceGetName(nvmlDevice_t device, char *to, unsigned size) { IF_ALIVE(device); return text(to, size, facts.name); }
API nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t *to) { IF_ALIVE(device); *to = NVML_BRAND_NVIDIA; return NVML_SUCCESS; }
API nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t *to) { IF_ALIVE(device); *to = NVML_DEVICE_ARCH_TURING; return NVML_SUCCESS; }
API nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
  IF_ALIVE(device);
  *major = facts.major;
  *minor = facts.minor;
  return NVML_SUCCESS;
}
API nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *to) {
  IF_ALIVE(device);
  to->total = to->free = (unsigned long long)facts.memory << 20;
  to->used = 0;
  return NVML_SUCCESS;
}
API nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *to) {
  IF_ALIVE(device);
  memset(to, 0, sizeof *to);
  bus_of(device->index, to->busId);
  strcpy(to->busIdLegacy, to->busId + 4);
  to->bus = device->index + 1;
  to->pciDeviceId = 0x1EB810DE;
  return NVML_SUCCESS;
}
API nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *to) { IF_ALIVE(device); *to = 0; return NVML_SUCCESS; }
API nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *to) { IF_ALIVE(device); *to = 0; return NVML_SUCCESS; }
API nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other, nvmlGpuTopologyLevel_t *to) {
  IF_ALIVE(one);
  IF_ALIVE(other);
  *to = NVML_TOPOLOGY_SYSTEM;
  return NVML_SUCCESS;
}

API nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *to) {
  IF_ALIVE(device);
  *to = nvmlEventTypeXidCriticalError;
  return NVML_SUCCESS;
}
API nvmlEventSetCreate(nvmlEventSet_t *to) { *to = (nvmlEventSet_t)calloc(1, sizeof(struct watch)); return *to ? NVML_SUCCESS : NVML_ERROR_MEMORY; }
API nvmlEventSetFree(nvmlEventSet_t set) { free((void *)set); return NVML_SUCCESS; }
API nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long kinds, nvmlEventSet_t set) {
  (void)kinds;
  IF_ALIVE(device);
  ((struct watch *)set)->registered[device->index] = 1;
  return NVML_SUCCESS;
}
API nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *to, unsigned timeout_ms) {
  struct watch *watch = (struct watch *)set;
  for (unsigned waited = 0;; waited += LOOK_AGAIN_MS) {
    read_facts();
    for (unsigned gpu = 0; gpu < facts.count; gpu++) {
      int code = facts.lost[gpu] ? 79 : facts.xid[gpu];
      if (!watch->registered[gpu] || code == watch->told[gpu]) continue;
      watch->told[gpu] = code;
      if (!code) continue;
      memset(to, 0, sizeof *to);
      to->device = &devices[gpu];
      to->eventType = nvmlEventTypeXidCriticalError;
      to->eventData = code;
      to->gpuInstanceId = to->computeInstanceId = 0xFFFFFFFF;
      return NVML_SUCCESS;
    }
    if (waited >= timeout_ms) return NVML_ERROR_TIMEOUT;
    usleep(LOOK_AGAIN_MS * 1000);
  }
}
API nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *to, unsigned timeout_ms) { return nvmlEventSetWait_v2(set, to, timeout_ms); }
