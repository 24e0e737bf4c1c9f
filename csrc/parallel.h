// parallel_for for kernels: a lambda instead of a function pointer and a context.
#pragma once

#include "thread_pool.h"

namespace kvik::KVIK_ISA {

// fn(begin, end, thread) over contiguous shares of [0, num_tasks); see run_parallel.
template <class Fn>
static inline void parallel_for(int64_t num_tasks, int64_t min_tasks_per_share, const Fn& fn) {
    run_parallel(
        num_tasks, min_tasks_per_share,
        [](void* context, int64_t begin, int64_t end, int thread) {
            (*static_cast<const Fn*>(context))(begin, end, thread);
        },
        const_cast<Fn*>(&fn));
}

// How many tasks a share must have for waking another to pay, when one task handles `bytes_per_task`.
static inline int64_t min_tasks(int64_t bytes_per_task) {
    constexpr int64_t kWorthWaking = 16 * 1024;
    return bytes_per_task > 0 ? (kWorthWaking + bytes_per_task - 1) / bytes_per_task : 1;
}

}  // namespace kvik::KVIK_ISA
