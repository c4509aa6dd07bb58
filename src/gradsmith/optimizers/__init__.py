"""Optimizers, each a short chain that reads like its paper: a file a family, wiring and no more."""

from .adamuon import adamuon as adamuon
from .adamuon import namo as namo
from .ademamix import ademamix as ademamix
from .dion2 import dion2 as dion2
from .forge import forge as forge
from .kron import kron as kron
from .mars import mars_adamw as mars_adamw
from .mars import mars_muon as mars_muon
from .muon import muon as muon
from .muoneq import muoneq as muoneq
from .normuon import normuon as normuon
from .scion import scion as scion
from .shampoo import asgo as asgo
from .shampoo import shampoo as shampoo
from .soap import soap as soap
from .soap_muon import soap_muon as soap_muon
from .spheres import adamh as adamh
from .spheres import muonh as muonh
