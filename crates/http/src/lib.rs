//! HTTP: what fetching artifacts and talking to registries have in common.
//!
//! It decides when to try again and when to give up, sends requests on where they are redirected without letting
//! credentials follow, says in words why something failed, and completes a download over as many connections as it
//! takes. It knows neither what is fetched nor who asks: credentials are put on a request by a function of the caller.
