#include "cpu_features.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace avatar {
namespace {

InstructionSet best() {
#if defined(AV_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2"))
        return InstructionSet::avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        return InstructionSet::avx2;
#endif
    return InstructionSet::portable;
}

}  // namespace

InstructionSet instruction_set() {
    static const InstructionSet available = best();
    const char* wanted = std::getenv("AVATAR_OPS_ISA");
    if (!wanted) return available;
    for (InstructionSet set : {InstructionSet::portable, InstructionSet::avx2, InstructionSet::avx512})
        if (!std::strcmp(wanted, name(set)) && set < available) return set;
    return available;
}

const char* name(InstructionSet set) {
    switch (set) {
        case InstructionSet::avx512:
            return "avx512";
        case InstructionSet::avx2:
            return "avx2";
        default:
            return "portable";
    }
}

}  // namespace avatar
