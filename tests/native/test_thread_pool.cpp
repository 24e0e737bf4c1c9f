// The thread pool: each task once, whoever calls, however the number of threads changes. Its own program, so that it can
// run under ThreadSanitizer, too.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "harness.h"
#include "thread_pool.h"

namespace kvik::test {

struct Setup {};

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr bool kUnderThreadSanitizer = true;
#else
constexpr bool kUnderThreadSanitizer = false;
#endif

// A lambda as a region.
template <class Fn>
void region(int64_t num_tasks, int64_t min_tasks, const Fn& fn) {
    run_parallel(
        num_tasks, min_tasks,
        [](void* context, int64_t begin, int64_t end, int thread) {
            (*static_cast<const Fn*>(context))(begin, end, thread);
        },
        const_cast<Fn*>(&fn));
}

// One region; plain writes, so that two threads at one task, or a return before all are done, is a race.
void count_once(int64_t num_tasks, int64_t min_tasks) {
    std::vector<int> counts(static_cast<size_t>(num_tasks));
    region(num_tasks, min_tasks, [&](int64_t begin, int64_t end, int thread) {
        CHECK(0 <= begin && begin < end && end <= num_tasks, words("begin", begin, "end", end));
        CHECK(0 <= thread && thread < num_threads(), words("thread", thread));
        CHECK(end - begin >= min_tasks || begin == 0 || num_tasks < 2 * min_tasks, words("a share of", end - begin));
        for (int64_t i = begin; i < end; ++i) ++counts[i];
    });
    for (int64_t i = 0; i < num_tasks; ++i) CHECK(counts[i] == 1, words("task", i, "ran so many times:", counts[i]));
}

// Waiting threads fetch from it, also where it is gone by then.
TEST(an_upcoming_stream_changes_nothing) {
    set_num_threads(3);
    for (int64_t pieces : {0, 1, 2, 1000}) {
        std::vector<uint8_t> memory(static_cast<size_t>(pieces) * 192);
        set_upcoming({memory.data(), pieces, 192});
        for (int times = 0; times < 20; ++times) count_once(8, 1);
    }
    count_once(8, 1);
    set_upcoming({});
    count_once(8, 1);
}

TEST(each_task_runs_once) {
    for (const int threads : {1, 2, 3, 4, 7}) {
        set_num_threads(threads);
        CHECK(num_threads() == threads, words("threads", num_threads()));
        for (const int64_t tasks : {0, 1, 2, 3, 5, 8, 17, 64, 1000})
            for (const int64_t least : {0, 1, 2, 7, 100, 5000}) {
                at(words("threads", threads, "tasks", tasks, "least", least));
                for (int times = 0; times < 5; ++times) count_once(tasks, least);
            }
    }
}

TEST(many_short_regions) {
    for (const int threads : {2, 3}) {
        set_num_threads(threads);
        int64_t sum = 0;
        std::vector<int64_t> parts(16);
        for (int times = 0; times < 20000; ++times) {
            region(16, 1, [&](int64_t begin, int64_t end, int) {
                for (int64_t i = begin; i < end; ++i) parts[i] = times + i;
            });
            for (const int64_t part : parts) sum += part;
        }
        CHECK(sum == int64_t{16} * 20000 * 19999 / 2 + 20000 * 120, words("sum", sum));
    }
}

// Workers fall asleep between regions and are woken.
TEST(regions_with_pauses) {
    set_num_threads(3);
    for (int times = 0; times < 60; ++times) {
        count_once(64, 1);
        usleep(static_cast<useconds_t>(times * 20));
    }
}

TEST(a_region_inside_a_task_runs_there) {
    set_num_threads(3);
    std::vector<std::atomic<int>> counts(64);
    region(8, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
            region(8, 1, [&](int64_t first, int64_t last, int thread) {
                CHECK(first == 0 && last == 8 && thread == 0, "a region inside a task is one share");
                for (int64_t j = first; j < last; ++j) ++counts[i * 8 + j];
            });
    });
    for (const auto& count : counts) CHECK(count == 1, words("ran so many times:", count));
}

TEST(several_callers_take_turns) {
    for (const int threads : {1, 2, 3}) {
        set_num_threads(threads);
        at(words("threads", threads));
        std::vector<std::thread> callers;
        for (int i = 0; i < 4; ++i)
            callers.emplace_back([i] {
                for (int times = 0; times < 500; ++times) count_once(10 + i, 1);
            });
        for (std::thread& caller : callers) caller.join();
    }
}

TEST(the_number_of_threads_goes_up_and_down) {
    for (int times = 0; times < 40; ++times) {
        set_num_threads(1 + times * 5 % 7);
        count_once(100, 1);
        if (times % 3 == 0) set_num_threads(1 + times % 4);  // without work in between
    }
}

TEST(scratch_belongs_to_its_thread) {
    set_num_threads(3);
    for (const size_t bytes : {1, 100, 5000, 200000})
        region(32, 1, [&](int64_t begin, int64_t end, int thread) {
            for (int64_t i = begin; i < end; ++i) {
                auto* mine = static_cast<unsigned char*>(thread_scratch(bytes));
                CHECK(reinterpret_cast<uintptr_t>(mine) % 64 == 0, "scratch is not aligned");
                std::memset(mine, thread + 1, bytes);
                for (size_t j = 0; j < bytes; ++j) CHECK(mine[j] == thread + 1, "another thread wrote here");
            }
        });
}

// A child has none of the threads; it computes alone. It neither starts threads nor takes memory: the sanitizers do not
// allow it, whose own locks another thread may have held at the fork. tests/unit/kernels/test_runtime.py starts some.
TEST(regions_are_counted_where_others_can_see_it) {
    uint64_t progress = 5;
    count_progress_at(&progress);
    count_once(100, 1);
    count_once(1, 1);
    count_once(0, 1);
    CHECK(progress == 7, words("progress", static_cast<int64_t>(progress)));
    count_progress_at(nullptr);
    count_once(100, 1);
    CHECK(progress == 7, words("progress", static_cast<int64_t>(progress)));
}

TEST(a_forked_child_computes_alone) {
    set_num_threads(3);
    count_once(50, 1);
    const pid_t child = fork();
    if (child == 0) {
        int counts[50] = {};
        region(50, 1, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) ++counts[i];
        });
        bool is_right = num_threads() == 1;
        for (const int count : counts) is_right = is_right && count == 1;
        _exit(is_right ? 0 : 1);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child failed");
    count_once(50, 1);
}

}  // namespace
}  // namespace kvik::test

int main() {
    using namespace kvik::test;
    name_the_case_on_death();
    const int count = run_tests({}, "");
    kvik::set_num_threads(1);
    std::printf("thread pool  %d tests passed%s\n", count, kUnderThreadSanitizer ? " under ThreadSanitizer" : "");
}
