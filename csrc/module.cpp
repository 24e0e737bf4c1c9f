// The Python module kvik._native. Knows no op by name: the bindings are made from the list in table.h.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "memory.h"
#include "table.h"
#include "tape.h"
#include "thread_pool.h"

namespace nb = nanobind;

namespace kvik {
namespace {

// A pointer crosses the border as an address, a count as its value.
template <class T>
using Wire = std::conditional_t<std::is_pointer_v<T>, uintptr_t, KernelArgument<T>>;

template <class T>
T from_wire(Wire<T> value) {
    if constexpr (std::is_pointer_v<T>) {
        return reinterpret_cast<T>(value);
    } else {
        return T{value};
    }
}

template <class T>
KernelArgument<T> to_kernel(T argument) {
    if constexpr (std::is_same_v<T, KernelArgument<T>>) {
        return argument;
    } else {
        return argument.value;
    }
}

template <class Signature>
struct Binding;

template <class R, class... A>
struct Binding<R(A...)> {
    using Op = Kernel<R(A...)> Table::*;

    static void define(nb::module_& m, const char* name, Op op) {
        m.def(
            name, [name, op](Wire<A>... args) -> R { return call(name, op, from_wire<A>(args)...); },
            nb::call_guard<nb::gil_scoped_release>());
    }

    // Run, or recorded where this thread records; a recorded call has nothing to complain of.
    static R call(const char* name, Op op, A... args) {
        Tape* tape = Tape::recording();
        if (!tape) return (active->*op)(to_kernel(args)...);
        tape->append(std::make_unique<RecordedCallOf<R(A...)>>(name, op, args...));
        if constexpr (!std::is_void_v<R>) return -1;
    }
};

using CallDescription = std::pair<std::string, std::vector<std::pair<std::string, double>>>;

std::vector<CallDescription> describe_calls(const Tape& tape) {
    std::vector<CallDescription> described;
    for (const auto& call : tape.calls()) {
        auto& [name, arguments] = described.emplace_back();
        name = call->name();
        for (const Argument& argument : call->arguments()) arguments.emplace_back(argument.kind, argument.value);
    }
    return described;
}

void bind_tape(nb::module_& m) {
    nb::class_<Tape>(m, "Tape", "Kernel calls, recorded once and replayed with other counts.")
        .def(nb::init<>())
        .def("start", &Tape::start, "From now on this thread's ops are recorded and not run.")
        .def("stop", &Tape::stop)
        .def_static(
            "announce",
            [](uintptr_t data, int64_t num_pieces, int64_t piece_bytes) {
                if (Tape* tape = Tape::recording())
                    tape->announce({reinterpret_cast<const uint8_t*>(data), num_pieces, piece_bytes});
            },
            "Where this thread records: the next call reads num_pieces of piece_bytes from data on, shared by threads.")
        .def(
            "replay",
            [](const Tape& tape, int64_t num_rows, int64_t num_requests, int64_t block_table_width) {
                tape.replay({num_rows, num_requests, block_table_width});
            },
            nb::call_guard<nb::gil_scoped_release>(), "num_rows, num_requests, block_table_width: the step's counts.")
        .def("calls", describe_calls, "Per call its op and its arguments, each a kind and a value.");
}

std::vector<std::string> isa_names() {
    std::vector<std::string> names;
    for (const char* const* name = available_isas(); *name; ++name) names.emplace_back(*name);
    return names;
}

using Bytes = nb::ndarray<nb::pytorch, uint8_t, nb::ndim<1>, nb::device::cpu>;

struct Mapping {
    void* data;
    size_t num_bytes;
    ~Mapping() { unmap_pages(data, num_bytes); }
};

Bytes allocate(size_t num_bytes) {
    auto* mapping = new Mapping{map_pages(num_bytes), num_bytes};
    nb::capsule owner(mapping, [](void* p) noexcept { delete static_cast<Mapping*>(p); });
    return Bytes(mapping->data, {num_bytes}, owner);
}

void start_threads(int num_threads) {
    if (num_threads < 1)
        throw std::invalid_argument("num_threads is " + std::to_string(num_threads) + "; it must be at least 1");
    set_num_threads(num_threads);
}

}  // namespace
}  // namespace kvik

NB_MODULE(_native, m) {
    using namespace kvik;
    m.doc() = "Kernels of kvik for this processor. Takes raw addresses; kvik.kernels is the door.";
    select_isa(available_isas()[0]);
    m.def("isa", [] { return std::string(active->isa); }, "Name of the instruction set in use.");
    m.def("available_isas", isa_names, "Names that this machine can run, best first.");
    m.def("select_isa", [](const std::string& name) { select_isa(name.c_str()); }, "Use another one of these.");
    m.def("set_num_threads", start_threads, "Threads that compute, the caller included.");
    m.def("num_threads", num_threads);
    m.def(
        "count_progress_at", [](uintptr_t address) { count_progress_at(reinterpret_cast<uint64_t*>(address)); },
        "Each op counts up the u64 at this address; 0 ends that.");
    m.def("allocate", allocate, "num_bytes -> uint8 tensor: zeroed, untouched, on huge pages from 2 MiB on.");
    bind_tape(m);
#define KVIK_OP_BIND(name, ...) Binding<__VA_ARGS__>::define(m, #name, &Table::name);
    KVIK_OPS(KVIK_OP_BIND)
#undef KVIK_OP_BIND
}
