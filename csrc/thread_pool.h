// Persistent worker threads for kernels. Knows nothing of what it runs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "upcoming.h"

namespace kvik {

// Called with the tasks [begin, end) and the number of the thread, 0 for the caller, below num_threads().
using RangeFn = void (*)(void* context, int64_t begin, int64_t end, int thread);

// Splits [0, num_tasks) into one contiguous share per thread and returns when all are done; the caller takes part. No
// more shares are made than give each at least `min_tasks_per_share`. The cut depends on nothing but the arguments
// and num_threads(); which thread computes a share is left open, and one may compute several, one after another.
// A call from inside a task runs in that task's thread, as one share.
void run_parallel(int64_t num_tasks, int64_t min_tasks_per_share, RangeFn fn, void* context);

// The regions that the calling thread asks for from here on are followed by one that reads `stream`, or by none known.
// A thread that waits after its share of them fetches the beginning of what it will read. No result depends on it.
void set_upcoming(const Stream& stream);

// From now on each call of run_parallel counts up the number at `address`, which must stay valid; nullptr ends that.
// Somebody else may read it at any time: it tells work that goes on from work that hangs.
void count_progress_at(uint64_t* address);

// Threads that compute, the caller included. Not to be called while kernels run in other threads.
void set_num_threads(int num_threads);
int num_threads();

// Memory of the calling thread, 64-byte aligned, at least `num_bytes` long, with undefined contents. It is the same
// block at each call of one thread: a kernel asks once and cuts it up itself.
void* thread_scratch(size_t num_bytes);

}  // namespace kvik
