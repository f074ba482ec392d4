// The Python module avatar._ops, put together from the operators' own parts. avatar/ops checks what it passes.

#include "bind.h"
#include "cpu_features.h"

NB_MODULE(_ops, m) {
    m.def("instruction_set", [] { return avatar::name(avatar::instruction_set()); });
#if defined(AV_CUDA)
    m.attr("CUDA") = true;
#else
    m.attr("CUDA") = false;
#endif
    avatar::bind_adam(m);
    avatar::bind_binding(m);
    avatar::bind_hashgrid(m);
    avatar::bind_image(m);
    avatar::bind_mesh(m);
    avatar::bind_posing(m);
    avatar::bind_rasterize(m);
    avatar::bind_raymarch(m);
}
