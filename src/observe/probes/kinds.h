#pragma once
// One line a kind: its descriptor and how one is made. The table is in probes.cc.

#include "observe/probe.h"

namespace squall::observe {

using ProbeFactory = base::Result<std::unique_ptr<Probe>> (*)(const model::ProbeSpecification&,
                                                              ProbeContext);

extern const model::ProbeKindDescriptor kHttpProbe;
extern const model::ProbeKindDescriptor kTcpProbe;
extern const model::ProbeKindDescriptor kPostgresProbe;
extern const model::ProbeKindDescriptor kRedisProbe;
extern const model::ProbeKindDescriptor kCommandProbe;
extern const model::ProbeKindDescriptor kProcessProbe;
extern const model::ProbeKindDescriptor kPrometheusProbe;
extern const model::ProbeKindDescriptor kLogProbe;

base::Result<std::unique_ptr<Probe>> make_http_probe(const model::ProbeSpecification&,
                                                     ProbeContext);
base::Result<std::unique_ptr<Probe>> make_tcp_probe(const model::ProbeSpecification&, ProbeContext);
base::Result<std::unique_ptr<Probe>> make_postgres_probe(const model::ProbeSpecification&,
                                                         ProbeContext);
base::Result<std::unique_ptr<Probe>> make_redis_probe(const model::ProbeSpecification&,
                                                      ProbeContext);
base::Result<std::unique_ptr<Probe>> make_command_probe(const model::ProbeSpecification&,
                                                        ProbeContext);
base::Result<std::unique_ptr<Probe>> make_process_probe(const model::ProbeSpecification&,
                                                        ProbeContext);
base::Result<std::unique_ptr<Probe>> make_prometheus_probe(const model::ProbeSpecification&,
                                                           ProbeContext);
base::Result<std::unique_ptr<Probe>> make_log_probe(const model::ProbeSpecification&, ProbeContext);

}  // namespace squall::observe
