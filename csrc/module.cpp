// The Python module kvik._native. Knows no op by name: the bindings are made from the list in table.h.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "memory.h"
#include "table.h"
#include "thread_pool.h"

namespace nb = nanobind;

namespace kvik {
namespace {

// A pointer crosses the border as an address.
template <class T>
using Wire = std::conditional_t<std::is_pointer_v<T>, uintptr_t, T>;

template <class T>
T from_wire(Wire<T> value) {
    if constexpr (std::is_pointer_v<T>) {
        return reinterpret_cast<T>(value);
    } else {
        return value;
    }
}

template <class R, class... A>
void bind(nb::module_& m, const char* name, R (*Table::*op)(A...)) {
    m.def(
        name, [op](Wire<A>... args) -> R { return (active->*op)(from_wire<A>(args)...); },
        nb::call_guard<nb::gil_scoped_release>());
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
    m.def("allocate", allocate, "num_bytes -> uint8 tensor: zeroed, untouched, on huge pages from 2 MiB on.");
#define KVIK_OP_BIND(name, ...) bind(m, #name, &Table::name);
    KVIK_OPS(KVIK_OP_BIND)
#undef KVIK_OP_BIND
}
