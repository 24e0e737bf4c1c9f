#include "thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace kvik {
namespace {

// A decode step is a few hundred short regions with 5 to 60 us between them; to sleep and be woken takes 20. Whoever
// waits offers its core to others all the while: the HTTP process, or a thread that has a share of this region but lost
// its core. docs/architecture.md has the measurements.
constexpr std::chrono::microseconds kSpin{100};

void cpu_pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

thread_local Stream upcoming;  // as the caller has said
thread_local ShareFetcher fetcher;

// Spins until ready() or until kSpin is over; returns what ready() said last. Memory that would lie idle meanwhile is
// asked for what this thread reads next.
template <class Ready>
bool spin_until(Ready ready) {
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < 32; ++i) {
            if (ready()) return true;
            fetcher.fetch_some();
            cpu_pause();
        }
        sched_yield();
    } while (std::chrono::steady_clock::now() < deadline);
    return ready();
}

// One side waits for a condition on atomics, another makes it true and calls wake(). Sleepers are counted first and
// look again under the lock, so a wake between looking and sleeping is not lost.
class Gate {
public:
    template <class Ready>
    void wait(Ready ready) {
        if (spin_until(ready)) return;
        std::unique_lock lock(mutex_);
        num_sleeping_.fetch_add(1);
        changed_.wait(lock, ready);
        num_sleeping_.fetch_sub(1);
    }

    void wake() {
        if (num_sleeping_.load() == 0) return;
        { std::lock_guard lock(mutex_); }
        changed_.notify_all();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::atomic<int> num_sleeping_{0};
};

struct Job {
    RangeFn fn = nullptr;
    void* context = nullptr;
    int64_t num_tasks = 0;
    int num_shares = 0;
    Stream upcoming;  // what the region after it reads

    // An exception would leave other threads computing for a caller that is gone: it ends the process instead.
    void run_share(int share, int thread) const noexcept {
        const int64_t begin = num_tasks * share / num_shares, end = num_tasks * (share + 1) / num_shares;
        if (begin < end) fn(context, begin, end, thread);
    }
};

thread_local bool inside_task = false;
uint64_t* progress = nullptr;  // where others see that work goes on

// A job is cut into shares, which threads claim by counting `claims_` up. The caller claims too: a share that no
// worker has begun, because it sleeps or has lost its core to another process, is computed rather than waited for.
class Pool {
public:
    explicit Pool(int num_threads) {
        for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this, i] { work(i); });
    }

    ~Pool() {
        stopping_.store(true);
        start_.wake();
        for (std::thread& worker : workers_) worker.join();
    }

    int size() const { return static_cast<int>(workers_.size()) + 1; }

    void run(const Job& job) {
        std::lock_guard one_at_a_time(run_mutex_);
        job_ = job;
        num_done_.store(0);
        claims_.store(static_cast<uint64_t>(job.num_shares) << 32);
        start_.wake();
        inside_task = true;
        while (run_one_share(0)) {
        }
        inside_task = false;
        done_.wait([this] { return num_done_.load() == job_.num_shares; });
    }

private:
    static bool open(uint64_t claims) { return static_cast<uint32_t>(claims) < claims >> 32; }

    // False where no share is left. job_ is read after the claim only: from then on the caller waits for this share.
    bool run_one_share(int thread) {
        uint64_t claims = claims_.load();
        do {
            if (!open(claims)) return false;
        } while (!claims_.compare_exchange_weak(claims, claims + 1));
        const int num_shares = static_cast<int>(claims >> 32);
        const int share = static_cast<int>(static_cast<uint32_t>(claims));
        job_.run_share(share, thread);
        fetcher.aim(job_.upcoming, share, num_shares);
        if (num_done_.fetch_add(1) + 1 == num_shares) done_.wake();
        return true;
    }

    void work(int thread) {
        inside_task = true;
        while (true) {
            start_.wait([this] { return open(claims_.load()) || stopping_.load(); });
            if (stopping_.load()) return;
            run_one_share(thread);
        }
    }

    std::vector<std::thread> workers_;
    std::mutex run_mutex_;
    Job job_;
    Gate start_, done_;
    alignas(64) std::atomic<uint64_t> claims_{0};  // number of shares in the upper half, claimed ones in the lower
    alignas(64) std::atomic<int> num_done_{0};
    std::atomic<bool> stopping_{false};
};

Pool* pool = nullptr;  // null: the caller alone. Never freed at exit: workers may still be asleep in it.

// Threads do not survive a fork; the child computes alone until it asks for threads again.
void forget_pool_in_child() { pool = nullptr; }

class Scratch {
public:
    ~Scratch() { std::free(data_); }

    void* at_least(size_t num_bytes) {
        if (num_bytes_ < num_bytes) {
            std::free(data_);
            num_bytes_ = 0;
            const size_t whole_pages = (num_bytes + 4095) / 4096 * 4096;
            data_ = std::aligned_alloc(64, whole_pages);
            if (!data_) throw std::bad_alloc();
            num_bytes_ = whole_pages;
        }
        return data_;
    }

private:
    void* data_ = nullptr;
    size_t num_bytes_ = 0;
};

}  // namespace

void run_parallel(int64_t num_tasks, int64_t min_tasks_per_share, RangeFn fn, void* context) {
    if (num_tasks <= 0) return;
    if (progress) std::atomic_ref(*progress).fetch_add(1, std::memory_order_relaxed);
    const int64_t wanted = num_tasks / std::max<int64_t>(1, min_tasks_per_share);
    const int num_shares = static_cast<int>(std::clamp<int64_t>(wanted, 1, num_threads()));
    if (num_shares == 1 || inside_task) {
        fn(context, 0, num_tasks, 0);
        return;
    }
    pool->run({fn, context, num_tasks, num_shares, upcoming});
}

void set_upcoming(const Stream& stream) { upcoming = stream; }

void count_progress_at(uint64_t* address) { progress = address; }

int num_threads() { return pool ? pool->size() : 1; }

void set_num_threads(int num_threads) {
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool_in_child);
    (void)registered;
    delete pool;
    pool = nullptr;
    if (num_threads > 1) pool = new Pool(num_threads);
}

void* thread_scratch(size_t num_bytes) {
    thread_local Scratch scratch;
    return scratch.at_least(num_bytes);
}

}  // namespace kvik
